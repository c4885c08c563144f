#!/usr/bin/python3
"""Makes one self-contained HTML page of one or several runs: curves, tables, differences of configuration.

    scripts/report.py RUN... [-o report.html]      RUN: a run folder, such as runs/tiny, or a folder of these
    scripts/report.py --live [--port 8080] RUN...  serves the page on this machine, made anew while the runs go on

The page needs no network and no other file. A run that is still going on can be looked at, too. A run with
predictions.csv (dcs3gd-train --eval RUN --predictions RUN/predictions.csv) shows what is taken for what.
Exit codes: 0 done, 1 the page cannot be written or served, 2 usage, or a folder that holds no readable run.
"""

import argparse
import base64
import html
import math
import re
import statistics
import sys
from pathlib import Path

from output_file import output_file
from report_server import serve
from run_results import RunError, milliseconds, number, read_run

PROGRAM = Path(sys.argv[0]).name  # report.py, or dcs3gd-report where it is installed
MOST_PICTURE_BYTES = 1 << 22

STYLE = """
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #222; background: #fff;
       max-width: 1180px; margin: 0 auto; padding: 18px 22px 60px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 34px 0 8px; }
p { margin: 4px 0 10px; color: #555; max-width: 78em; }
.runs { position: sticky; top: 0; z-index: 1; background: #fffffff2; border-bottom: 1px solid #ddd; padding: 8px 0;
        display: flex; flex-wrap: wrap; gap: 4px 20px; }
.runs label { white-space: nowrap; cursor: pointer; } .runs input { margin: 0 6px 0 0; vertical-align: -1px; }
.runs svg, td svg { width: 26px; height: 10px; vertical-align: 0; margin-right: 6px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); gap: 18px 26px; }
figure { margin: 0; } figure > svg, figure > img { width: 100%; height: auto; display: block; } .wide { grid-column: 1 / -1; }
figcaption { color: #666; font-size: 12.5px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: 4px 9px 4px 0; text-align: right; border-bottom: 1px solid #e6e6e6; white-space: nowrap; }
th { color: #555; font-weight: 600; vertical-align: bottom; border-bottom: 2px solid #bbb; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.value { text-align: left; max-width: 24em; overflow: hidden; text-overflow: ellipsis; }
td.best { font-weight: 700; } .bad { color: #b3261e; font-weight: 600; } .note { color: #8a5a00; }
.chip { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 5px 0 14px;
        vertical-align: -1px; }
details { margin: 6px 0; } summary { cursor: pointer; }
pre { font-size: 12px; overflow-x: auto; margin: 4px 0 4px 18px; }
"""


class Table:
    """Rows of text; `best` puts a cell in bold."""

    def __init__(self, columns):
        self._rows = ["<tr>" + "".join(f"<th{css}>{escape(name)}</th>" for name, css in columns) + "</tr>"]

    def row(self, cells):
        self._rows.append("<tr>" + "".join(cells) + "</tr>")

    def html(self):
        return '<div class="scroll"><table>' + "\n".join(self._rows) + "</table></div>"


def escape(text):
    return html.escape(str(text), quote=True)


def cell(text, css=""):
    return f'<td class="{css}">{escape(text)}</td>' if css else f"<td>{escape(text)}</td>"


def figure_text(value, form):
    """A number in this format, with an exponent where it would be long; a dash if there is none."""
    if abs(value) >= 1e7:
        form = re.sub(r"{[^}]*}", "{:.3g}", form)
    return form.format(value) if math.isfinite(value) else "–"


def duration(seconds):
    if not math.isfinite(seconds):
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def percentile(values, share):
    finite = sorted(value for value in values if math.isfinite(value))
    return finite[min(len(finite) - 1, int(share * len(finite)))] if finite else math.nan


def mean(values):
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.nan


def overlap(run):
    """Share of the all-reduce time that computing hid, over the whole run."""
    pairs = [(number(step.get("wait_ms")), number(step.get("all_reduce_ms"))) for step in run.steps]
    pairs = [(wait, whole) for wait, whole in pairs if math.isfinite(wait) and math.isfinite(whole) and whole > 0]
    whole = sum(pair[1] for pair in pairs)
    return 1 - sum(min(pair) for pair in pairs) / whole if whole and run.starts[-1].get("ranks", 1) > 1 else math.nan


def exposed_ms(run):
    """wait_ms of every step; NaN on one rank, where nothing travels."""
    alone = run.starts[-1].get("ranks", 1) == 1
    return [math.nan if alone else wait for wait in run.column("wait_ms")]


def images_per_s(run):
    """Mean over the training steps."""
    step_ms = mean(run.column("step_ms"))
    rates = [number(step.get("images_per_s")) * number(step.get("step_ms")) for step in run.steps]
    return mean(rates) / step_ms if step_ms > 0 else math.nan


# --- tables -----------------------------------------------------------------------------------------------------------


def run_cell(plots, index, run):
    return f"<td>{swatch(plots, index)}{escape(run.name)}</td>"


def swatch(plots, index):
    pattern = plots.dashes(index)
    dash = "" if pattern == "-" else f' stroke-dasharray="{" ".join(str(2 * part) for part in pattern[1])}"'
    return (f'<svg viewBox="0 0 26 10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" stroke-width="4" '
            f'stroke="{plots.colour(index)}"{dash}/></svg>')


def results_table(plots, runs):
    columns = ["run", "algorithm", "workers", "batch", "epoch", "step", "best top-1", "last top-1", "last top-5",
               "last eval. loss", "training loss", "status"]
    table = Table([(name, ' class="text"' if name in ("algorithm", "status") else "") for name in columns])
    leader = max((run.best("top1") for run in runs if math.isfinite(run.best("top1"))), default=math.nan)
    for index, run in enumerate(runs):
        last = run.steps[-1] if run.steps else {}
        table.row([
            run_cell(plots, index, run),
            cell(run.configuration.get("algorithm.name", "–"), "text"),
            cell(run.starts[-1].get("workers", "–")),
            cell(figure_text(run.images_per_step(), "{:.0f}")),
            cell(f"{last.get('epoch', 0)} of {run.configuration.get('run.epochs', '–')}"),
            cell(last.get("step", 0)),
            cell(figure_text(100 * run.best("top1"), "{:.2f} %"), "best" if run.best("top1") == leader else ""),
            cell(figure_text(100 * run.final("top1"), "{:.2f} %")),
            cell(figure_text(100 * run.final("top5"), "{:.2f} %")),
            cell(figure_text(run.final("loss"), "{:.4f}")),
            cell(figure_text(mean(run.column("loss")[-last_steps(run):]), "{:.4f}")),
            cell(f"{run.status}: {run.why}" if run.why else run.status, "text" if run.status == "done" else "text bad"),
        ])
    return table.html() + ("<p>Batch: images per step, over all workers. Training loss: mean of the last 2 % of the "
                           "steps, at least one.</p>")


def last_steps(run):
    return max(1, len(run.steps) // 50)


def times_table(plots, runs):
    columns = ["run", "ranks", "threads", "img/s", "step: mean", "median", "99 %", "compute", "all-reduce", "wait",
               "hidden", "sent per step", "training", "wall clock"]
    table = Table([(name, "") for name in columns])
    for index, run in enumerate(runs):
        start, step_ms = run.starts[-1], run.column("step_ms")
        table.row([
            run_cell(plots, index, run),
            cell(start.get("ranks", "–")),
            cell(start.get("threads", "–")),
            cell(figure_text(images_per_s(run), "{:,.1f}")),
            cell(milliseconds(mean(step_ms))),
            cell(milliseconds(percentile(step_ms, 0.5))),
            cell(milliseconds(percentile(step_ms, 0.99))),
            *[cell(milliseconds(mean(run.column(key))))
              for key in ("compute_ms", "all_reduce_ms", "wait_ms")],
            cell(figure_text(100 * overlap(run), "{:.1f} %")),
            cell(figure_text(number(start.get("all_reduce_bytes")) / 1e6, "{:,.2f} MB")),
            cell(duration(run.training_seconds()[-1] if run.steps else math.nan)),
            cell(duration(run.wall_s())),
        ])
    return table.html() + ("<p>Times are rank 0's, means over all steps. Wait: what computing did not hide of the "
                           "all-reduce. Sent per step: one rank's array on the wire. Training: the steps alone; wall "
                           "clock: with evaluations and files, of the parts of the run that came to an end.</p>")


def differences_table(plots, runs):
    """The keys that not all runs have alike."""
    keys = sorted({key for run in runs for key in run.configuration} - {"run.name"})
    differing = [key for key in keys if len({repr(run.configuration.get(key)) for run in runs}) > 1]
    if not differing:
        return "<p>All keys but run.name are alike.</p>"
    table = Table([("run", "")] + [(key, ' class="text"') for key in differing])
    for index, run in enumerate(runs):
        table.row([run_cell(plots, index, run)] + [cell(value_text(run, key), "value") for key in differing])
    return table.html()


def value_text(run, key):
    if key not in run.configuration:
        return "–"
    value = run.configuration[key]
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def details(runs):
    parts = []
    for run in runs:
        start = run.starts[-1]
        lines = [f"{key}: {value_text(run, key)}" for key in run.configuration]
        hosts = start.get("hosts") or []
        facts = [f"folder: {run.folder}", f"version: {start.get('version')}", f"command: {start.get('command')}",
                 f"configuration hash: {start.get('config_hash')}", f"hosts: {', '.join(map(str, hosts))}",
                 f"instruction set: {start.get('isa')}", f"learned numbers: {number(start.get('parameters')):,.0f}"]
        parts.append(f"<details><summary>{escape(run.name)}</summary><pre>{escape(chr(10).join(facts))}</pre>"
                     f"<pre>{escape(chr(10).join(lines))}</pre></details>")
    return "\n".join(parts)


def notes(runs):
    found = []
    for run in runs:
        for start in run.starts:
            if start.get("resumed_from"):
                found.append(f"{run.name} was continued after step {start['resumed_from']}.")
        if run.unreadable_lines:
            shown = ", ".join(map(str, run.unreadable_lines[:5])) + (", …" if len(run.unreadable_lines) > 5 else "")
            found.append(f"{run.name}: unreadable lines of metrics.jsonl were left out: {shown}.")
        if not run.steps:
            found.append(f"{run.name} has no step yet.")
        elif not run.evaluations:
            found.append(f"{run.name} has no evaluation.")
    return found


# --- the page ---------------------------------------------------------------------------------------------------------


def figures(plots, runs):
    """(SVG, caption, css) of all pictures for which a run has values."""
    if not any(run.steps for run in runs):
        return []
    steps, time = plots.Axis(runs), plots.TimeAxis(runs)

    def curve(name, title, unit, key, caption="", axis=steps, **options):
        columns = [run.column(key) for run in runs]
        return plots.step_curves(name, title, unit, columns, runs, axis, **options), caption, ""

    def evaluation(name, title, unit, key, axis=steps, caption="", **options):
        return plots.evaluation_curves(name, title, unit, key, runs, axis, **options), caption, ""

    drawn = [
        curve("loss", "Training loss", "cross-entropy [nat]", "loss", "Mean over all workers, before the update.",
              scale="auto", far_above=plots.FAR_ABOVE),
        evaluation("eval-loss", "Evaluation loss", "cross-entropy [nat]", "loss", caption="Of the mean model."),
        evaluation("top1", "Top-1 accuracy", "correct [%]", "top1", factor=100),
        evaluation("top5", "Top-5 accuracy", "correct [%]", "top5", factor=100),
        evaluation("top1-time", "Top-1 accuracy by time", "correct [%]", "top1", axis=time, factor=100,
                   caption="What a run reached after how much training."),
        curve("loss-time", "Training loss by time", "cross-entropy [nat]", "loss", axis=time, scale="auto",
              far_above=plots.FAR_ABOVE),
        curve("lr", "Learning rate", "learning rate", "lr", smooth=False, from_zero=True,
              far_above=plots.FAR_ABOVE),
        curve("gradient", "Gradient norm", "‖g‖", "grad_norm", "Mean over workers.", scale="auto",
              far_above=plots.FAR_ABOVE),
        curve("lambda", "Strength of the correction", "λ", "lambda",
              "λ = λ0·‖g‖ / ‖g⊙g⊙D‖, mean over workers; where it is 0 a logarithmic axis cannot show it.",
              scale="auto", far_above=plots.FAR_ABOVE),
        curve("distance", "Distance to the mean model", "‖D‖", "distance_norm", "Mean over workers.",
              scale="auto", far_above=plots.FAR_ABOVE),
        curve("price", "Price of staleness", "loss", "staleness_price",
              "−½ mean ⟨g, D⟩: how much lower the loss is at the mean model than at the workers' weights.",
              far_above=plots.FAR_ABOVE),
        curve("rate", "Throughput", "images per second, all workers", "images_per_s", from_zero=True),
        curve("step-time", "Time of a step", "time [ms]", "step_ms", from_zero=True),
        curve("overlap", "Overlap", "hidden share of the all-reduce", "overlap",
              "1 − wait / all-reduce: 1 is communication that costs nothing. Runs on one rank have none.",
              from_zero=True),
        (plots.step_curves("wait", "Exposed communication", "wait [ms]", [exposed_ms(run) for run in runs], runs, steps,
                           from_zero=True), "What the step waited for the all-reduce.", ""),
    ]
    times = [[mean(run.column(key)) for key in ("compute_ms", "wait_ms", "all_reduce_ms")] for run in runs]
    legend = "".join(f'<span class="chip" style="background:{plots.PARTS[part]}"></span>{text}' for part, text in
                     (("compute", "compute"), ("wait", "all-reduce waited for"), ("hidden", "all-reduce hidden")))
    drawn.append((plots.step_times("parts", runs, [[0 if math.isnan(part) else part for part in run] for run in times]),
                  f"Upper bar: the step. Lower bar: the all-reduce beside it. {legend}", "wide"))
    return [one for one in drawn if one[0] is not None]


def toggles(plots, runs):
    """One box a run that shows and hides its curves, by style alone."""
    labels, rules = [], []
    for index, run in enumerate(runs):
        labels.append(f'<label><input type="checkbox" id="show{index}" checked>{swatch(plots, index)}'
                      f"{escape(run.name)}</label>")
        rules.append(f'body:has(#show{index}:not(:checked)) [id*="-run{index}-"] {{ display: none; }}')
    return f'<div class="runs">{"".join(labels)}</div>', "\n".join(rules)


def first_batches(runs):
    """The pictures of what the runs train on; the trainer writes them."""
    pictures = []
    for run in runs:
        try:
            with open(run.folder / "first_batch.jpg", "rb") as file:
                data = file.read(MOST_PICTURE_BYTES + 1)
        except OSError:
            continue
        if data.startswith(b"\xff\xd8") and len(data) <= MOST_PICTURE_BYTES:
            pictures.append(f'<figure><img alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
                            f"<figcaption>{escape(run.name)}: the first images of its training, as the network gets them."
                            "</figcaption></figure>")
    return "<h2>Images</h2>\n<div class=\"plots\">\n" + "\n".join(pictures) + "\n</div>" if pictures else ""


def page(runs):
    # Takes a second: only once all folders have been found good.
    import report_errors
    import report_plots as plots

    boxes, rules = toggles(plots, runs)
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    drawings = "\n".join(f'<figure class="{css}">{svg}<figcaption>{caption}</figcaption></figure>'
                         for svg, caption, css in figures(plots, runs))
    remarks = "".join(f'<p class="note">{escape(note)}</p>' for note in notes(runs))
    sections = [(run.name, report_errors.errors_of(run.folder)) for run in runs]
    mistakes = "\n".join(f"<h2>Predictions of {escape(name)}</h2>\n{section}" for name, section in sections if section)
    differences = ("" if len(runs) == 1 else
                   f"<h2>Differences of configuration</h2>\n{differences_table(plots, runs)}")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dcs3gd-train: {escape(title)}</title>
<style>{STYLE}{report_errors.STYLE}{rules}</style>
</head>
<body>
<h1>dcs3gd-train: {escape(title)}</h1>
{boxes}
<main>
<h2>Results</h2>
{results_table(plots, runs)}
{remarks}
{differences}
<h2>Curves</h2>
<p>Pale: the values of all steps (of long runs the span from the least to the greatest). Line: their average over
neighbours, a Gaussian of {100 * plots.SMOOTHING:.1f} % of the axis. Single outliers may lie outside the frame. A cross
ends a run that diverged or failed; a dotted upright line is where a run was continued.</p>
<div class="plots">
{drawings}
</div>
{mistakes}
{first_batches(runs)}
<h2>Times</h2>
{times_table(plots, runs)}
<h2>Runs</h2>
{details(runs)}
</main>
</body>
</html>
"""


def write_report(folders, path):
    """Throws RunError if a folder holds no readable run, OSError if the page cannot be written."""
    runs = [read_run(folder) for folder in folders]
    with output_file(path) as file:
        file.write_text(page(runs), encoding="utf-8")


def is_readable(folder):
    try:
        read_run(folder)
    except RunError:
        return False
    return True


def run_folders(paths):
    """The paths, each folder of runs replaced by the runs in it that can be read."""
    folders = []
    for path in map(Path, paths):
        is_run = (path / "config.yaml").exists() or (path / "metrics.jsonl").exists()
        below = [] if is_run else sorted(file.parent for file in path.glob("*/metrics.jsonl"))
        folders += [folder for folder in below if is_readable(folder)] or below[:1] or [path]
    return folders


def main():
    parser = argparse.ArgumentParser(description="Makes one HTML page of one or several runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, such as runs/tiny, or a folder of these")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-o", "--output", metavar="FILE", default="report.html", help="the page (report.html)")
    output.add_argument("--live", action="store_true", help="serve the page on this machine and keep it up to date")
    parser.add_argument("--port", type=int, default=8080, help="of --live (8080); 0: any that is free")
    arguments = parser.parse_args()
    where = f"serve on port {arguments.port}" if arguments.live else f"write {arguments.output}"
    try:
        if arguments.live:
            serve(lambda folders: page([read_run(folder) for folder in folders]), lambda: run_folders(arguments.runs),
                  arguments.port, lambda line: print(f"{PROGRAM}: {line}", flush=True))
            return 0
        folders = run_folders(arguments.runs)
        write_report(folders, arguments.output)
    except RunError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except (OSError, OverflowError) as error:
        print(f"{PROGRAM}: error: cannot {where}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    print(f"{PROGRAM}: {len(folders)} run{'s' * (len(folders) != 1)}: {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
