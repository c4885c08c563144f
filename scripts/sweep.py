#!/usr/bin/python3
"""Trains many configurations, several at a time, and ranks them.

    scripts/sweep.py SWEEP.yaml [--dry-run] [--program PATH]

The same command continues an interrupted sweep: finished and diverged runs are not repeated, the others go on from
their checkpoints. Ctrl-C stops the runs, each with a checkpoint; a second one kills them. scripts/README.md explains
the file. Results: <output_dir>/<name>/ with a folder a run, results.txt, results.csv and report.html.

Exit codes: 0 all runs are over (diverged ones, too), 1 a run failed, 2 usage, sweep file or configuration,
75 interrupted: run again to continue.
"""

import argparse
import csv
import fcntl
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from run_results import RunError, flat, number, read_run
from sweep_plan import RANKINGS, SweepError, planned_runs, read_sweep, value_text

EXIT_FAILURE, EXIT_INPUT, EXIT_STOPPED = 1, 2, 75
PROGRAM = Path(sys.argv[0]).name  # sweep.py, or dcs3gd-sweep where it is installed
FINISHED = ("done", "diverged")
MOST_ON_PAGE = 12  # runs that a reader can tell apart
POLL_S = 0.05
GRACE_S = 120  # for the checkpoint of a run that is to stop
SCRIPTS = Path(__file__).resolve().parent


def say(text):
    print(f"{PROGRAM}: {text}", flush=True)


# --- launching --------------------------------------------------------------------------------------------------------


class LocalLauncher:
    """Runs as processes of this machine, with as many threads as keep all runs together within its cores."""

    def __init__(self, sweep, program, run_count):
        cores = len(os.sched_getaffinity(0))
        self.parallel = sweep.parallel or max(1, min(run_count, cores // (sweep.ranks * (sweep.threads or 1))))
        self.threads = sweep.threads or max(1, cores // (self.parallel * sweep.ranks))
        needed = self.parallel * sweep.ranks * self.threads
        if needed > cores:
            raise SweepError(f"launch: {self.parallel} runs at a time × {sweep.ranks} ranks × {self.threads} threads "
                             f"need {needed} cores, this machine has {cores}")
        self.description = (f"{self.parallel} at a time, {sweep.ranks} rank{'s' * (sweep.ranks > 1)} × {self.threads} "
                            f"thread{'s' * (self.threads > 1)} each, on {cores} cores")
        self._command = [program]
        self._stop_signal = signal.SIGTERM
        if sweep.ranks > 1:
            # Several jobs share the machine: none may be bound to the first cores.
            self._command = ["mpirun", "-n", str(sweep.ranks), "--oversubscribe", "--bind-to", "none", program]
            # mpirun hands SIGUSR1 on and waits; SIGTERM it answers with SIGKILL to the ranks a second later.
            self._stop_signal = signal.SIGUSR1

    def start(self, run, arguments, console):
        return subprocess.Popen(self._command + arguments, stdin=subprocess.DEVNULL, stdout=console,
                                stderr=subprocess.STDOUT, start_new_session=True,
                                env={**os.environ, "OMP_NUM_THREADS": str(self.threads)})

    def output(self, run, console):
        """The file with what the run said."""
        return console

    def stop(self, process, console):
        process.send_signal(self._stop_signal)

    def kill(self, process, console):
        os.killpg(process.pid, signal.SIGKILL)


class SlurmLauncher:
    """Runs as Slurm jobs; `sbatch --wait` stands for its job until that is over."""

    def __init__(self, sweep, program, run_count):
        if not shutil.which("sbatch"):
            raise SweepError("launch.kind: slurm: there is no sbatch on this machine")
        self.parallel = sweep.parallel or run_count
        self.description = f"up to {self.parallel} Slurm jobs at a time, {sweep.ranks} ranks each"
        self._threads = [f"--cpus-per-task={sweep.threads}"] if sweep.threads else []
        self._ranks = sweep.ranks
        self._options = sweep.slurm_options
        self._program = program
        self._consoles = sweep.folder() / "consoles"

    def start(self, run, arguments, console):
        job_output = self.output(run, console)
        command = ["sbatch", "--wait", "--parsable", f"--job-name={run.name}", f"--ntasks={self._ranks}",
                   f"--output={job_output}", "--open-mode=append", *self._threads, *self._options,
                   str(SCRIPTS / "train_slurm.sbatch"), *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                                start_new_session=True, env={**os.environ, "DCS3GD_TRAIN": self._program})

    def output(self, run, _console):
        return self._consoles / f"{run.name}.job.txt"

    def stop(self, process, console):
        """Slurm sends SIGTERM, and SIGKILL after its KillWait."""
        job = console.read_text().splitlines()[:1]
        if job:
            subprocess.run(["scancel", job[0].split(";")[0]], check=False)
        else:
            process.terminate()

    def kill(self, process, console):
        self.stop(process, console)
        os.killpg(process.pid, signal.SIGKILL)


# --- the sweep --------------------------------------------------------------------------------------------------------


class Interruption:
    """Counts SIGINT, SIGTERM and SIGHUP instead of dying of them."""

    def __init__(self):
        self.count = 0
        for number_of_signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number_of_signal, self._on_signal)

    def _on_signal(self, _signal, _frame):
        self.count += 1


class Sweeper:
    def __init__(self, sweep, runs, program, config):
        self._sweep, self._runs, self._program, self._config = sweep, runs, program, config
        self._folder = sweep.folder()
        self._consoles = self._folder / "consoles"
        self._launcher = (SlurmLauncher if sweep.launcher == "slurm" else LocalLauncher)(sweep, program, len(runs))
        self._outcomes = {}  # run name -> "done", "diverged", "stopped", "failed"
        self._refusal = None  # what a run with exit code 2 said
        self._stopping = False

    def arguments(self, run):
        settings = [part for setting in run.settings for part in ("--set", setting)]
        return ["--config", self._config, *settings]

    def check(self):
        """The program reads the configuration of every run, and finished runs are those that would run today. Throws
        SweepError with what the program said."""
        for run in self._runs:
            checked = subprocess.run([self._program, *self.arguments(run), "--print-config"], capture_output=True,
                                     encoding="utf-8", errors="replace", check=False)
            if checked.returncode != 0:
                raise SweepError(f"{run.name}: dcs3gd-train refuses the configuration:\n{checked.stderr.strip()}")
            status = self._finished(run)
            if status:
                self._refuse_other_configuration(run, flat(yaml.safe_load(checked.stdout)))
                self._outcomes[run.name] = status

    def describe(self):
        over = len(self._outcomes)
        say(f"{self._sweep.name}: {len(self._runs)} runs" + (f", {over} of them are over" if over else "") +
            f"; {self._launcher.description}")

    def show(self):
        """--dry-run"""
        for run in self._runs:
            print(f"{run.name}: {self._outcomes.get(run.name, 'to run')}")
            print("  " + shlex.join([self._program, *self.arguments(run)]))

    def run(self, interruption):
        """Returns the exit code."""
        self._consoles.mkdir(parents=True, exist_ok=True)
        waiting = [run for run in self._runs if run.name not in self._outcomes]
        active = []
        while active or (waiting and not interruption.count and not self._refusal):
            while waiting and len(active) < self._launcher.parallel and not interruption.count and not self._refusal:
                active.append(self._start(waiting.pop(0)))
            active = [one for one in active if not self._collect(*one)]
            if active and (interruption.count or self._refusal):
                self._stop(active, interruption)
                active = []
            time.sleep(POLL_S if active else 0)
        return self._exit_code(interruption)

    def write_results(self):
        """results.txt, results.csv and report.html; the text goes to standard output, too."""
        ranked = self._ranked()
        columns = ["rank", "run", *self._sweep.parameters, "status", "best_top1", "final_top1", "eval_loss",
                   "images_per_s", "wall_s"]
        with open(self._folder / "results.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in ranked)
        text = table_text(columns, ranked)
        (self._folder / "results.txt").write_text(text, encoding="utf-8")
        print(f"\n{text}\n{PROGRAM}: ranked by {self._sweep.rank_by}: {self._folder}/results.txt, results.csv")
        self._write_page(ranked)

    # --- one run ---

    def _finished(self, run):
        """"done", "diverged" or None."""
        try:
            status = json.loads((self._folder / run.name / "summary.json").read_text(encoding="utf-8")).get("status")
        except (OSError, ValueError, AttributeError):
            return None
        return status if status in FINISHED else None

    def _refuse_other_configuration(self, run, wanted):
        try:
            there = flat(yaml.safe_load((self._folder / run.name / "config.yaml").read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError) as error:
            raise SweepError(f"{self._folder / run.name}: a finished run without a readable config.yaml") from error
        for key in wanted.keys() & there.keys():
            if wanted[key] != there[key] and not key.startswith("output."):
                raise SweepError(f"{self._folder / run.name} is finished, but with {key}: {value_text(there[key])} "
                                 f"instead of {value_text(wanted[key])}; give the sweep another name, or remove it")

    def _start(self, run):
        say(f"{run.name}: started")
        with open(self._console(run), "w", encoding="utf-8") as console:
            return run, self._launcher.start(run, self.arguments(run), console), time.monotonic()

    def _console(self, run):
        return self._consoles / f"{run.name}.txt"

    def _collect(self, run, process, start):
        """Whether the run is over; notes how it ended."""
        if process.poll() is None:
            return False
        code, status = process.returncode, self._finished(run)
        last = last_words(self._launcher.output(run, self._console(run)))
        if status:
            self._outcomes[run.name] = status
        elif code == EXIT_INPUT:
            self._outcomes[run.name] = "failed"
            self._refusal = f"{run.name}: {last}"
        else:
            self._outcomes[run.name] = "stopped" if code == EXIT_STOPPED or self._stopping else "failed"
        outcome = self._outcomes[run.name]
        detail = f" (exit code {code}): {last}" if outcome == "failed" else ""
        over = sum(outcome in FINISHED for outcome in self._outcomes.values())
        say(f"{run.name}: {outcome}{self._accuracy(run)} after {time.monotonic() - start:.0f} s{detail}  "
            f"[{over} of {len(self._runs)} are over]")
        return True

    def _accuracy(self, run):
        try:
            best = read_run(self._folder / run.name).best("top1")
        except RunError:
            return ""
        return f", best top-1 {100 * best:.2f} %" if math.isfinite(best) else ""

    def _stop(self, active, interruption):
        """Ends these runs, which we started, and no others."""
        say(f"stopping {len(active)} runs; once more Ctrl-C kills them" if interruption.count else
            f"a configuration was refused: stopping {len(active)} runs")
        self._stopping = True
        for run, process, _ in active:
            self._launcher.stop(process, self._console(run))
        heard, end, killed = interruption.count, time.monotonic() + GRACE_S, False
        while active := [one for one in active if not self._collect(*one)]:
            if not killed and (interruption.count > heard or time.monotonic() > end):
                for run, process, _ in active:
                    self._launcher.kill(process, self._console(run))
                killed = True
            time.sleep(POLL_S)

    def _exit_code(self, interruption):
        if self._refusal:
            say(f"error: {self._refusal}")
            return EXIT_INPUT
        outcomes = [self._outcomes.get(run.name, "to run") for run in self._runs]
        if interruption.count or "stopped" in outcomes:
            say("not all runs are over; the same command continues them")
            return EXIT_STOPPED
        return EXIT_FAILURE if "failed" in outcomes else 0

    # --- results ---

    def _ranked(self):
        rows = [self._result(run) for run in self._runs]
        better = -1 if RANKINGS[self._sweep.rank_by] == "greatest" else 1

        def place(row):
            value = row[self._sweep.rank_by]
            return row["status"] != "done", value != value, better * value if value == value else 0

        rows.sort(key=place)
        for index, row in enumerate(rows):
            row["rank"] = index + 1 if row["status"] == "done" else math.nan
        return rows

    def _result(self, run):
        row = {"run": run.name, **{key: value_text(value) for key, value in run.values.items()},
               "status": self._outcomes.get(run.name, "to run")}
        row.update(dict.fromkeys(("best_top1", "final_top1", "eval_loss", "images_per_s", "wall_s"), math.nan))
        row["has_curves"] = False
        try:
            result = read_run(self._folder / run.name)
        except RunError:
            return row
        end = result.ends[-1] if result.ends else {}
        row["has_curves"] = bool(result.steps)
        row.update(best_top1=result.best("top1"), final_top1=result.final("top1"), eval_loss=result.final("loss"),
                   images_per_s=number(end.get("images_per_s")), wall_s=result.wall_s())
        return row

    def _write_page(self, ranked):
        folders = [self._folder / row["run"] for row in ranked if row["has_curves"]]
        if not folders:
            return
        try:
            from report import write_report  # needs matplotlib, which training does not

            write_report(folders[:MOST_ON_PAGE], self._folder / "report.html")
        except (ImportError, OSError, RunError) as error:
            say(f"warning: no report page: {error}")
            return
        which = f"the first {MOST_ON_PAGE} of them" if len(folders) > MOST_ON_PAGE else "their curves"
        say(f"{which}: {self._folder}/report.html")


def last_words(path):
    """The last line of a run's output that speaks of an error, or else the last one."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    errors = [line for line in lines if "error:" in line and not line.startswith("srun:")]
    return (errors or lines or ["it said nothing"])[-1]


def table_text(columns, rows):
    forms = {"rank": "{:.0f}", "best_top1": "{:.4f}", "final_top1": "{:.4f}", "eval_loss": "{:.4f}",
             "images_per_s": "{:.1f}", "wall_s": "{:.1f}"}

    def shown(column, value):
        return "-" if value != value else forms[column].format(value) if column in forms else str(value)

    lines = [columns] + [[shown(column, row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)


def find_program(given):
    if given:
        if not shutil.which(given):
            raise SweepError(f"--program {given}: no such program")
        return str(Path(shutil.which(given)).resolve())
    # In a checkout, and where both are installed.
    places = [SCRIPTS.parent / "build/release/bin/dcs3gd-train", SCRIPTS / "../../../bin/dcs3gd-train"]
    found = next((str(place) for place in places if place.exists()), None) or shutil.which("dcs3gd-train")
    if not found:
        raise SweepError(f"neither {places[0]} nor a dcs3gd-train in PATH; build it, or name it with --program")
    return found


def find_config(sweep_file, config):
    """Beside the sweep file, or else wherever dcs3gd-train finds it."""
    beside = Path(sweep_file).parent / config
    return str(beside) if beside.is_file() else config


def claim(folder):
    """An open file whose lock keeps a second sweep out of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w", encoding="utf-8",
                opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o666))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SweepError(f"{folder} is in use by another sweep") from None
    return lock


def sweep_command(arguments):
    sweep = read_sweep(arguments.sweep)
    sweeper = Sweeper(sweep, planned_runs(sweep), find_program(arguments.program),
                      find_config(arguments.sweep, sweep.config))
    sweeper.check()
    sweeper.describe()
    if arguments.dry_run:
        sweeper.show()
        return 0
    with claim(sweep.folder()):
        code = sweeper.run(Interruption())
        sweeper.write_results()
    return code


def main():
    parser = argparse.ArgumentParser(description="Trains many configurations and ranks them.")
    parser.add_argument("sweep", metavar="SWEEP.yaml", help="what to search; see scripts/README.md")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the runs")
    parser.add_argument("--program", metavar="PATH", help="dcs3gd-train (the one built here, or else in PATH)")
    try:
        return sweep_command(parser.parse_args())
    except SweepError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except OSError as error:
        print(f"{PROGRAM}: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted before the first run", file=sys.stderr)
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
