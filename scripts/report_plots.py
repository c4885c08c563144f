"""The pictures of report.py: each function returns one SVG drawing as text, to stand inside a page of HTML."""

import io
import math
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend first)
import numpy as np  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from run_results import milliseconds, number  # noqa: E402

# Told apart by most readers with a colour deficiency, too (Okabe and Ito's, then darker ones). Run i has colour i.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222", "#8c564b", "#808000", "#27307a",
           "#8f8f8f", "#a50f3c")
PARTS = {"compute": "#7a9cc6", "wait": "#d1495b", "hidden": "#b9d8b0"}

MOST_POINTS = 600  # per curve: more cannot be seen, and would make a page of many megabytes
FAR_ABOVE = 4  # times the median of the runs' greatest values
SMOOTHING = 0.012  # standard deviation of the average, as a share of the horizontal axis

matplotlib.rcParams.update({
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.fonttype": "path",  # looks alike wherever it is opened
    "svg.hashsalt": "dcs3gd",  # the same runs give the same page
})


def colour(index):
    return COLOURS[index % len(COLOURS)]


def dashes(index):
    """Beyond the colours, runs are told apart by their lines."""
    return ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))[index // len(COLOURS) % 3]


class Axis:
    """The horizontal axis that all runs share: epochs where every run tells them, else steps."""

    def __init__(self, runs):
        # A run that was over before its first epoch was takes the length of an epoch from one like it.
        known = {_kind_of(run): run.steps_per_epoch() for run in runs if run.steps_per_epoch()}
        self._per_epoch = [run.steps_per_epoch() or known.get(_kind_of(run)) for run in runs]
        self._in_epochs = all(self._per_epoch)
        self.label = "epoch" if self._in_epochs else "step"
        self.length = max((max(self.of(index, run.steps), default=0) for index, run in enumerate(runs)), default=0)

    def of(self, index, events):
        unit = self._per_epoch[index] if self._in_epochs else 1
        return [event["step"] / unit for event in events]


def _kind_of(run):
    """Runs of one kind have epochs of as many steps."""
    data = [(key, repr(value)) for key, value in run.configuration.items() if key.startswith("data.")]
    return run.images_per_step(), tuple(data)


class TimeAxis:
    """Seconds of training, in the unit that suits the longest run."""

    def __init__(self, runs):
        self._seconds = [run.training_seconds() for run in runs]
        longest = max((seconds[-1] for seconds in self._seconds if seconds), default=0)
        self._unit, name = next(((unit, name) for unit, name in ((3600, "h"), (60, "min")) if longest > 3 * unit),
                                (1, "s"))
        self.label = f"training time without evaluations [{name}]"
        self._steps = [[step["step"] for step in run.steps] for run in runs]
        self.length = longest / self._unit

    def of(self, index, events):
        steps = [event["step"] for event in events]
        if not self._steps[index]:
            return [math.nan] * len(steps)
        return list(np.interp(steps, self._steps[index], self._seconds[index]) / self._unit)


def binned(x, y):
    """At most MOST_POINTS of (x, mean, least, greatest), each over neighbours; NaN where none is a number."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    size = -(-len(y) // MOST_POINTS)
    if size <= 1:
        return x, y, y, y
    edges = range(0, len(y), size)
    groups = [y[edge:edge + size][np.isfinite(y[edge:edge + size])] for edge in edges]
    centres = np.array([np.mean(x[edge:edge + size]) for edge in edges])
    reduced = [np.array([reduce(group) if len(group) else math.nan for group in groups])
               for reduce in (np.mean, np.min, np.max)]
    return centres, *reduced


def smoothed(x, y, deviation):
    """The average of neighbours under a Gaussian of this standard deviation on the axis. NaN weighs nothing."""
    if len(x) < 3 or deviation <= 0:
        return y
    spacing = (x[-1] - x[0]) / (len(x) - 1)
    reach = min(int(4 * deviation / spacing) if spacing > 0 else 0, len(x) - 1)
    if reach < 1:
        return y
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * spacing / deviation) ** 2)
    valid = np.isfinite(y)
    weights = np.convolve(valid.astype(float), kernel, mode="full")[reach:reach + len(x)]
    sums = np.convolve(np.where(valid, y, 0), kernel, mode="full")[reach:reach + len(x)]
    return np.where(valid, sums / np.maximum(weights, 1e-30), math.nan)


def step_curves(name, title, unit, columns, runs, axis, scale="linear", smooth=True, from_zero=False,
                far_above=math.inf):
    """A value of every step, for all runs: columns[i] is that of run i. None if no run has it, or only zeros.
    `smooth`: the raw values are pale behind their average. `scale` "auto": logarithmic if the values of most runs span
    more than two decades. A run whose greatest values are `far_above` times those of most others lies outside."""
    columns = [np.array(column, float) for column in columns]
    if not any((np.isfinite(column) & (column != 0)).any() for column in columns):
        return None
    figure, axes = _figure(title, unit, axis)
    logarithmic = scale == "auto" and _spans_decades(columns)
    if logarithmic:
        axes.set_yscale("log")
        columns = [np.where(column > 0, column, math.nan) for column in columns]
    shown = []
    for index, run in enumerate(runs):
        x, mean, least, greatest = binned(axis.of(index, run.steps), columns[index])
        deviation = SMOOTHING * axis.length if smooth else 0
        line = 10 ** smoothed(x, np.log10(mean), deviation) if logarithmic else smoothed(x, mean, deviation)
        if smooth and least is not greatest:
            axes.fill_between(x, least, greatest, color=colour(index), alpha=0.16, linewidth=0, gid=f"run{index}-raw")
        elif smooth:
            axes.plot(x, mean, color=colour(index), alpha=0.28, linewidth=0.7, gid=f"run{index}-raw")
        axes.plot(x, line, color=colour(index), linewidth=1.5, linestyle=dashes(index), zorder=3,
                  gid=f"run{index}-line")
        _mark_end(axes, index, run, x, line)
        _mark_resumptions(axes, index, run, axis)
        shown.append(np.concatenate([line, least, greatest]))
    if not logarithmic:
        _set_limits(axes, shown, from_zero, far_above)
    return svg_of(figure, name, title)


def evaluation_curves(name, title, unit, key, runs, axis, factor=1.0):
    """A value of every evaluation, for all runs; None if no run has it."""
    if not any(math.isfinite(run.best(key)) for run in runs):
        return None
    figure, axes = _figure(title, unit, axis)
    shown = []
    for index, run in enumerate(runs):
        y = factor * np.array([number(event.get(key)) for event in run.evaluations])
        shown.append(y)
        axes.plot(axis.of(index, run.evaluations), y, color=colour(index), linestyle=dashes(index), linewidth=1.5,
                  marker="o", markersize=3.2, zorder=3, gid=f"run{index}-line")
    _set_limits(axes, shown, from_zero=False, far_above=FAR_ABOVE)
    return svg_of(figure, name, title)


def step_times(name, runs, times):
    """Two bars a run: what the step consists of, and which part of the all-reduce that hides. `times`: for each run
    (compute, wait, all-reduce) in ms."""
    title = "Mean times of a step"
    figure, axes = plt.subplots(figsize=(12.8, 1.1 + 0.62 * len(runs)))
    axes.set_title(title)
    for index, (compute, wait, all_reduce) in enumerate(times):
        waited = min(wait, all_reduce)
        _bar(axes, index, "step", 0, milliseconds(compute + wait), compute=compute, wait=wait)
        if all_reduce > 0:
            _bar(axes, index, "all-reduce", 0.34, f"all-reduce {milliseconds(all_reduce)}", hidden=all_reduce - waited,
                 wait=waited)
    axes.set_yticks(range(len(runs)), [shortened(run.name, 44) for run in runs])
    for index, label in enumerate(axes.get_yticklabels()):
        label.set_color(colour(index))
        label.set_fontweight("bold")
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("time [ms]")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    figure.tight_layout()
    return svg_of(figure, name, title)


def _bar(axes, index, name, below, text, **parts):
    """The parts one after the other, and the text at their end."""
    at, start = index - 0.17 + below, 0
    for part, length in parts.items():
        axes.barh(at, length, 0.3, left=start, color=PARTS[part], gid=f"run{index}-{name}-{part}")
        start += length
    axes.text(start, at, f"  {text}", va="center", fontsize=8.5, color="#333333", gid=f"run{index}-{name}-text")


def shortened(text, most):
    return text if len(text) <= most else text[:most - 1] + "…"


def _figure(title, unit, axis):
    figure, axes = plt.subplots(figsize=(6.3, 3.3))
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.set_xlabel(axis.label)
    axes.set_xlim(0, 1.01 * axis.length or 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=axis.label == "step", steps=[1, 2, 5, 10]))
    return figure, axes


def _mark_end(axes, index, run, x, y):
    """A cross where a run diverged or failed."""
    if run.status not in ("diverged", "failed"):
        return
    finite = np.flatnonzero(np.isfinite(y))
    if len(finite):
        axes.plot(x[finite[-1]], y[finite[-1]], marker="X", markersize=8, color=colour(index), markeredgecolor="white",
                  zorder=5, gid=f"run{index}-end")


def _mark_resumptions(axes, index, run, axis):
    for number_of_start, start in enumerate(run.starts):
        if start.get("resumed_from"):
            at, = axis.of(index, [{"step": start["resumed_from"]}])
            axes.axvline(at, color=colour(index), linewidth=1, alpha=0.7, linestyle=(0, (1, 2)), zorder=1,
                         gid=f"run{index}-resumed{number_of_start}")


def _spans_decades(columns):
    """Whether most runs have values of more than two decades, the few least and greatest left out."""
    ratios = []
    for column in columns:
        positive = column[column > 0]
        if positive.size:
            low, high = np.percentile(positive, (1, 99))
            ratios.append(high / low)
    return bool(ratios) and np.median(ratios) > 100


def _set_limits(axes, shown, from_zero, far_above):
    """Frames the values of all runs, but for single outliers and for runs whose greatest values are `far_above` times
    those of most others: they would flatten everything else. That they lie outside is said above the frame."""
    shown = [values[np.isfinite(values)] for values in shown]
    shown = [values for values in shown if values.size]
    low = min(np.percentile(values, 0.2) for values in shown)
    highs = [np.percentile(values, 99.8) for values in shown]
    high = max(value for value in highs if value <= far_above * np.median(highs) or np.median(highs) <= 0)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1
    axes.set_ylim(0 if from_zero or 0 <= low < margin else low - margin, high + margin)
    if max(highs) > high:
        axes.text(1, 1.02, "larger values lie outside", transform=axes.transAxes, ha="right", fontsize=8,
                  color="#8a5a00")


def svg_of(figure, name, title):
    """The drawing without XML's prologue, with names that are its own among all drawings of a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", pad_inches=0.06, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head).replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    return f"{head}>{body}"
