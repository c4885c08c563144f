"""What a run of dcs3gd-train left in its folder, read back: for report.py and sweep.py."""

import json
import math
from pathlib import Path

import yaml

NOT_FINISHED = "status unknown (running, or ended without a word)"


class RunError(Exception):
    """A folder that holds no readable run; the message names it."""


class Run:
    """One run folder. Numbers that the trainer wrote as null are NaN."""

    def __init__(self, folder, name, configuration, starts, steps, evaluations, ends, is_over, unreadable_lines):
        self.folder = folder
        self.name = name
        self.configuration = configuration  # section.key -> value, as in config.yaml
        self.starts = starts  # start events: one, and one more for each resumption
        self.steps = steps  # step events in order, each step once
        self.evaluations = evaluations  # eval events, likewise
        self.ends = ends  # end events: one for each start that came to an end
        self.status = ends[-1]["status"] if is_over else NOT_FINISHED
        self.why = str(ends[-1].get("why", "")) if is_over else ""  # done before its last step
        self.unreadable_lines = unreadable_lines  # line numbers in metrics.jsonl

    def column(self, key):
        return [number(step.get(key)) for step in self.steps]

    def images_per_step(self):
        """The global batch, from the configuration and the number of workers; NaN if one of them is not known."""
        return number(self.configuration.get("algorithm.batch_per_worker")) * number(self.starts[-1].get("workers"))

    def steps_per_epoch(self):
        """None if the events do not tell, which is so within the first epoch and when the global batch changed."""
        least, most = 1, math.inf
        for event in self.steps + self.evaluations:
            step, epoch = event["step"], event["epoch"]
            least = max(least, -(-step // epoch))
            if epoch > 1:
                most = min(most, (step - 1) // (epoch - 1))
        return least if least <= most <= 1.02 * least else None

    def training_seconds(self):
        """Seconds of training, evaluations and checkpoints left out, up to each of `steps`."""
        seconds, previous, total = [], 0, 0.0
        for step in self.steps:
            # A line may stand for several steps (output.metrics_every_steps).
            of_step = number(step.get("step_ms")) / 1e3
            total += (step["step"] - previous) * of_step if math.isfinite(of_step) else 0
            previous = step["step"]
            seconds.append(total)
        return seconds

    def wall_s(self):
        """From start to end, over all resumptions that came to an end."""
        return sum(number(end.get("wall_s")) for end in self.ends) if self.ends else math.nan

    def best(self, key):
        values = [number(event.get(key)) for event in self.evaluations]
        return max((value for value in values if math.isfinite(value)), default=math.nan)

    def final(self, key):
        return number(self.evaluations[-1].get(key)) if self.evaluations else math.nan


def number(value):
    """A JSON number as float; null, and what is no number, as NaN."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def milliseconds(value):
    """Three digits or more, without an exponent for what is long; a dash for no number."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def flat(value, prefix=""):
    """{"a": {"b": 1}} as {"a.b": 1}"""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    leaves = {}
    for key, inner in value.items():
        leaves.update(flat(inner, f"{prefix}.{key}" if prefix else str(key)))
    return leaves


def read_run(folder):
    """Throws RunError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such run folder")
    configuration = _read_configuration(folder / "config.yaml")
    events, unreadable_lines = _read_events(folder / "metrics.jsonl")
    starts, steps, evaluations, ends, is_over = [], {}, {}, [], False
    for event in events:
        kind = event["event"]
        if kind == "start":
            starts.append(event)
            is_over = False
            resumed_from = event.get("resumed_from") or 0
            steps = {step: line for step, line in steps.items() if step <= resumed_from}
            evaluations = {step: line for step, line in evaluations.items() if step <= resumed_from}
        elif kind == "step":
            steps[event["step"]] = event
        elif kind == "eval":
            evaluations[event["step"]] = event
        elif kind == "end":
            ends.append(event)
            is_over = True
    if not starts:
        raise RunError(f"{folder / 'metrics.jsonl'}: no start event: this is no run's file, or the run never started")
    return Run(folder, folder.resolve().name, configuration, starts, [steps[step] for step in sorted(steps)],
               [evaluations[step] for step in sorted(evaluations)], ends, is_over, unreadable_lines)


def _read_text(path):
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error


def _read_configuration(path):
    try:
        configuration = yaml.safe_load(_read_text(path))
    except yaml.YAMLError as error:
        raise RunError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(configuration, dict):
        raise RunError(f"{path}: not a configuration")
    return flat(configuration)


def _read_events(path):
    """The events, and the numbers of lines that are none. The last line may be cut off: the run may be writing it."""
    events, unreadable = [], []
    lines = _read_text(path).split("\n")
    for line_number, line in enumerate(lines, start=1):
        event = _event_of(line)
        if event is not None:
            events.append(event)
        elif line.strip() and line_number < len(lines):
            unreadable.append(line_number)
    return events, unreadable


def _event_of(line):
    """None if the line is no event that can be placed."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    places = ("step", "epoch") if event["event"] in ("step", "eval") else ()
    if any(not isinstance(event.get(key), int) or event[key] < 1 for key in places):
        return None
    if event["event"] == "end" and not isinstance(event.get("status"), str):
        return None
    return event
