"""What a sweep file says: strict reading, and the runs that follow from it. For sweep.py."""

import difflib
import hashlib
import itertools
import math
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

MOST_NAME_BYTES = 150
RANKINGS = {"best_top1": "greatest", "final_top1": "greatest", "eval_loss": "least", "images_per_s": "greatest"}
DRAWS = 1000  # attempts to find a combination that was not drawn before
OWN_KEYS = ("run.name", "run.output_dir")  # set by the sweep itself
PLAIN = (str, int, float, bool, type(None))
VARIANT = "variant"  # the parameter whose values are the names of the variants


class SweepError(Exception):
    """The sweep cannot be started; the message has a line for each problem."""


@dataclass
class Range:
    """Numbers to draw from."""

    least: float
    most: float
    scale: str = "linear"
    integer: bool = False

    def draw(self, numbers):
        if self.scale == "log":
            value = math.exp(numbers.uniform(math.log(self.least), math.log(self.most)))
        else:
            value = numbers.uniform(self.least, self.most)
        # Four digits: a name can show them, and nobody can tell more of them apart.
        return round(value) if self.integer else min(max(float(f"{value:.4g}"), self.least), self.most)


@dataclass
class Sweep:
    """A sweep file with its defaults."""

    name: str
    config: str
    output_dir: str = "runs"
    search: str = "grid"
    runs: int = None  # random search: how many
    seed: int = 1
    parameters: dict = field(default_factory=dict)  # key -> list of values, or Range
    variants: dict = field(default_factory=dict)  # name -> {key: value}, keys that belong together
    set: dict = field(default_factory=dict)  # key -> value, the same for all runs
    rank_by: str = "best_top1"
    launcher: str = "local"
    ranks: int = 1
    parallel: int = None  # None: as many as there are cores; under Slurm all
    threads: int = None  # None: the cores divided by the runs at a time
    slurm_options: list = field(default_factory=list)

    def folder(self):
        return Path(self.output_dir).expanduser() / self.name


@dataclass
class PlannedRun:
    name: str
    values: dict  # parameter -> value
    settings: list  # KEY=VALUE, for --set


def read_sweep(path):
    """Throws SweepError with all problems of the file, as file:line:column: key: what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    return _Reader(path, text).sweep()


def planned_runs(sweep):
    """The runs in the order in which they are started. More runs of a random search begin with the same ones."""
    if sweep.search == "grid":
        combinations = [dict(zip(sweep.parameters, values)) for values in itertools.product(*sweep.parameters.values())]
    else:
        combinations = _draw(sweep)
    labels = _labels(sweep.parameters)
    runs = []
    for values in combinations:
        name = _run_name({labels[key]: value for key, value in values.items()})
        own = {key: value for key, value in values.items() if key != VARIANT}
        own |= sweep.variants.get(values.get(VARIANT), {})
        settings = {**sweep.set, **own, "run.name": name, "run.output_dir": str(sweep.folder())}
        runs.append(PlannedRun(name, values, [f"{key}={value_text(value)}" for key, value in settings.items()]))
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise SweepError(f"two runs of the sweep have the same settings or names that look alike: {name}")
    return runs


def value_text(value):
    """The value as YAML on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]


def _draw(sweep):
    combinations = []
    for index in range(sweep.runs):
        for attempt in range(DRAWS):
            # Each number depends on nothing but its own place.
            values = {key: _draw_value(choice, random.Random(f"{sweep.seed}/{index}/{attempt}/{key}"))
                      for key, choice in sweep.parameters.items()}
            if values not in combinations:
                combinations.append(values)
                break
        else:
            raise SweepError(f"runs: the parameters have no {sweep.runs} different combinations, only about "
                             f"{len(combinations)}; search: grid tries all")
    return combinations


def _draw_value(choice, numbers):
    return choice.draw(numbers) if isinstance(choice, Range) else numbers.choice(choice)


def _labels(keys):
    """optimizer.lr.base is called lr.base, unless two keys would then be called alike."""
    short = {key: key.split(".", 1)[-1] for key in keys}
    names = list(short.values())
    return {key: name if names.count(name) == 1 else key for key, name in short.items()}


def _run_name(labelled):
    texts = {label: re.sub(r"[^A-Za-z0-9._+-]+", "_", value_text(value)).strip("_") for label, value in labelled.items()}
    name = ",".join(text if label == VARIANT else f"{label}={text}" for label, text in texts.items())
    if len(name) <= MOST_NAME_BYTES:
        return name
    return f"{name[:MOST_NAME_BYTES - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class _Reader:
    """Walks the YAML nodes, because they know their lines."""

    def __init__(self, path, text):
        self._path = path
        self._loader = yaml.SafeLoader(text)
        self._problems = []

    def sweep(self):
        try:
            root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise SweepError(f"{self._path}:{mark.line + 1}:{mark.column + 1}: {error.problem}") from error
        except yaml.YAMLError as error:
            raise SweepError(f"{self._path}: {error}") from error
        if root is None:
            raise SweepError(f"{self._path}: the file is empty")
        sweep = Sweep(name=Path(self._path).stem, config="")
        readers = {
            "config": self._text("config"), "name": self._folder_name, "output_dir": self._text("output_dir"),
            "search": self._choice("search", ("grid", "random")), "runs": self._whole("runs", 1),
            "seed": self._whole("seed", 0), "rank_by": self._choice("rank_by", tuple(RANKINGS)),
            "parameters": self._parameters, "variants": self._variants,
            "set": lambda sweep, node: sweep.set.update(self._settings("set.", node)),
            "launch": lambda sweep, node: self._fields(sweep, node, launch, "launch."),
        }
        launch = {
            "kind": self._choice("launcher", ("local", "slurm")), "ranks": self._whole("ranks", 1),
            "parallel": self._whole_or_auto("parallel"), "threads": self._whole_or_auto("threads"),
            "slurm_options": self._slurm_options,
        }
        self._fields(sweep, root, readers, "")
        if not self._problems:
            self._check_together(sweep, root)
        if self._problems:
            raise SweepError("\n".join(self._problems))
        return sweep

    def _fields(self, sweep, node, readers, prefix):
        for key, key_node, value in self._items(node, prefix):
            if key in readers:
                readers[key](sweep, value)
            else:
                self._problem(key_node, prefix + key, _unknown(key, readers))

    def _items(self, node, prefix):
        """(key, its node, the value's node) of a mapping, each key once."""
        if not isinstance(node, yaml.MappingNode):
            return self._problem(node, prefix.rstrip("."), "expected KEY: VALUE lines") or []
        seen, items = set(), []
        for key_node, value in node.value:
            key = str(key_node.value)
            if key in seen:
                self._problem(key_node, prefix + key, "stands there twice")
            else:
                items.append((key, key_node, value))
            seen.add(key)
        return items

    def _check_together(self, sweep, root):
        if not sweep.config:
            self._problem(root, "config", "is missing: the configuration that all runs begin with")
        if not sweep.parameters:
            self._problem(root, "parameters", "is missing: what to search; variants will do, too")
        ranges = [key for key, choice in sweep.parameters.items() if isinstance(choice, Range)]
        if sweep.search == "grid" and ranges:
            self._problem(root, f"parameters.{ranges[0]}", "a grid needs lists of values; a range needs search: random")
        if sweep.search == "grid" and sweep.runs is not None:
            self._problem(root, "runs", "belongs to search: random; a grid tries all combinations")
        if sweep.search == "random" and sweep.runs is None:
            self._problem(root, "runs", "is missing: how many combinations to draw")
        for name, settings in sweep.variants.items():
            for key in settings.keys() & (sweep.parameters.keys() | sweep.set.keys()):
                self._problem(root, f"variants.{name}.{key}", "stands in parameters or set, too")
        for key in sweep.parameters.keys() & sweep.set.keys():
            self._problem(root, f"set.{key}", "is searched, too: it can stand in one of set and parameters only")
        if sweep.launcher == "local" and sweep.slurm_options:
            self._problem(root, "launch.slurm_options", "needs launch.kind: slurm")

    def _problem(self, node, key, what):
        mark = node.start_mark
        place = f"{self._path}:{mark.line + 1}:{mark.column + 1}"
        self._problems.append(f"{place}: {key}: {what}" if key else f"{place}: {what}")

    def _value(self, node):
        try:
            return self._loader.construct_object(node, deep=True)
        except yaml.YAMLError as error:
            self._problem(node, "", getattr(error, "problem", None) or str(error))
            return None

    # Each of the following gives a function that reads one key's node into the sweep.

    def _whole(self, name, least):
        def read(sweep, node):
            value = self._value(node)
            if isinstance(value, int) and not isinstance(value, bool) and value >= least:
                setattr(sweep, name, value)
            else:
                self._problem(node, name, f"must be a whole number of at least {least}; found {_shown(node)}")
        return read

    def _whole_or_auto(self, name):
        whole = self._whole(name, 1)
        return lambda sweep, node: None if node.value == "auto" else whole(sweep, node)

    def _text(self, name):
        def read(sweep, node):
            if isinstance(node, yaml.ScalarNode) and node.value and node.tag != "tag:yaml.org,2002:null":
                setattr(sweep, name, node.value)
            else:
                self._problem(node, name, f"must be text; found {_shown(node)}")
        return read

    def _choice(self, name, accepted):
        def read(sweep, node):
            if node.value in accepted:
                setattr(sweep, name, node.value)
            else:
                self._problem(node, name, f"must be one of {', '.join(accepted)}; found {_shown(node)}."
                                          f"{did_you_mean(str(node.value), accepted)}")
        return read

    def _folder_name(self, sweep, node):
        if isinstance(node, yaml.ScalarNode) and re.fullmatch(r"(?!\.)[A-Za-z0-9._+,=-]{1,100}", node.value):
            sweep.name = node.value
        else:
            self._problem(node, "name", "must be a name for a folder: letters, digits and . _ + , = -")

    def _parameters(self, sweep, node):
        for key, key_node, value in self._items(node, "parameters."):
            self._check_key(key_node, f"parameters.{key}", key)
            if isinstance(value, yaml.SequenceNode):
                sweep.parameters[key] = self._values(f"parameters.{key}", value)
            elif isinstance(value, yaml.MappingNode):
                sweep.parameters[key] = self._range(f"parameters.{key}", value)
            else:
                self._problem(value, f"parameters.{key}",
                              f"must be a list of values or a range {{min: …, max: …}}; found {_shown(value)}")

    def _values(self, key, node):
        values = []
        for entry in node.value:
            value = self._setting_value(key, entry)
            if value in values and any(type(value) is type(other) for other in values):
                self._problem(entry, key, f"{_shown(entry)} stands there twice")
            values.append(value)
        if not values:
            self._problem(node, key, "the list is empty")
        return values

    def _range(self, key, node):
        limits, scale, integer = {}, "linear", False
        for name, name_node, value in self._items(node, f"{key}."):
            if name in ("min", "max"):
                limits[name] = self._number(f"{key}.{name}", value)
            elif name == "scale" and value.value in ("linear", "log"):
                scale = value.value
            elif name == "integer" and isinstance(self._value(value), bool):
                integer = self._value(value)
            elif name in ("scale", "integer"):
                accepted = "linear or log" if name == "scale" else "true or false"
                self._problem(value, f"{key}.{name}", f"must be {accepted}; found {_shown(value)}")
            else:
                self._problem(name_node, f"{key}.{name}", _unknown(name, ("min", "max", "scale", "integer")))
        if set(limits) != {"min", "max"}:
            self._problem(node, key, "a range needs min and max")
        elif None not in limits.values() and not limits["min"] < limits["max"]:
            self._problem(node, key, "min must be below max")
        elif None not in limits.values() and scale == "log" and limits["min"] <= 0:
            self._problem(node, key, "scale: log needs a min above 0")
        return Range(limits.get("min"), limits.get("max"), scale, integer)

    def _number(self, key, node):
        try:
            value = float(node.value)  # also what YAML 1.1 takes for text, such as 1e-3
        except (TypeError, ValueError):
            value = math.nan
        if math.isfinite(value):
            return value
        self._problem(node, key, f"must be a number; found {_shown(node)}")
        return None

    def _settings(self, prefix, node):
        settings = {}
        for key, key_node, value in self._items(node, prefix):
            self._check_key(key_node, f"{prefix}{key}", key)
            settings[key] = self._setting_value(f"{prefix}{key}", value)
        return settings

    def _variants(self, sweep, node):
        for name, name_node, value in self._items(node, "variants."):
            if not re.fullmatch(r"[A-Za-z0-9._+-]{1,60}", name):
                self._problem(name_node, f"variants.{name}", "must be a short name: letters, digits and . _ + -")
            sweep.variants[name] = self._settings(f"variants.{name}.", value)
        if not sweep.variants:
            self._problem(node, "variants", "has no variant")
        sweep.parameters = {VARIANT: list(sweep.variants), **sweep.parameters}

    def _check_key(self, node, where, key):
        if key in OWN_KEYS:
            self._problem(node, where, "is set by the sweep: see name and output_dir")
        elif not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", key):
            self._problem(node, where, "must be a whole key of the configuration, such as optimizer.lr.base")

    def _setting_value(self, key, node):
        value = self._value(node)
        if not _is_setting(value):
            self._problem(node, key, "a value is a number, text, true, false, null, or a list or mapping of these")
        return value

    def _slurm_options(self, sweep, node):
        value = self._value(node)
        if isinstance(value, list) and all(isinstance(option, str) and option.startswith("-") for option in value):
            sweep.slurm_options = value
        else:
            self._problem(node, "launch.slurm_options", "must be a list of sbatch's options, such as [--time=2:00:00]")


def _is_setting(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_setting(entry) for key, entry in value.items())
    return all(map(_is_setting, value)) if isinstance(value, list) else isinstance(value, PLAIN)


def _unknown(key, keys):
    return f"unknown key.{did_you_mean(key, keys) or ' The keys are ' + ', '.join(keys)}"


def did_you_mean(word, known):
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _shown(node):
    if isinstance(node, yaml.ScalarNode):
        return node.value[:60] or "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
