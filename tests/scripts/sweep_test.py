"""scripts/sweep.py: what it refuses, and sweeps that are interrupted, repeated, or hold runs that go wrong.

    /usr/bin/python3 sweep_test.py DCS3GD_TRAIN [unittest's arguments]
"""

import csv
import math
import os
import pathlib
import signal
import sys
import time
import unittest

from scripts_support import ScriptTest, import_script
from processes import wait_until

FAKE_TRAINER = pathlib.Path(__file__).resolve().parent / "fake_trainer.py"
PROGRAM = ""

sweep_plan = import_script("sweep_plan")

HEAD = "config: base.yaml\nlaunch: {parallel: 1}\n"


class SweepTest(ScriptTest):
    def setUp(self):
        super().setUp()
        self.write("base.yaml", "")

    def sweep(self, text, *arguments, code=0):
        self.write("s.yaml", HEAD + text)
        return self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, *arguments, code=code)

    def rows(self):
        with open(self.folder / "runs/s/results.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def starts(self):
        """(run, the step from which it went on) in the order of starts."""
        lines = [line.split() for line in self.read("runs/s/starts.txt").splitlines()]
        return [(name, int(step)) for name, step, _ in lines]

    def left_over(self):
        """Processes that have this test's folder as their current one."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").resolve() == self.folder.resolve():
                    found.append((entry / "cmdline").read_bytes())
            except OSError:
                pass  # it ended meanwhile
        return [line for line in found if line]


class Grid(SweepTest):
    TEXT = "parameters: {fake.quality: [0.3, 0.9, 0.6], fake.steps: [1, 2]}\n"

    def test_all_combinations_are_ranked(self):
        out, _ = self.sweep(self.TEXT)
        rows = self.rows()
        self.assertEqual([row["fake.quality"] for row in rows], ["0.9", "0.9", "0.6", "0.6", "0.3", "0.3"])
        self.assertEqual([row["rank"] for row in rows], list("123456"))
        self.assertEqual({row["status"] for row in rows}, {"done"})
        self.assertEqual(rows[0]["best_top1"], "0.9")
        self.assertEqual(len(self.starts()), 6)
        self.assertIn("quality=0.9,steps=1", out)
        self.assertIn(self.read("runs/s/results.txt"), out)
        self.assertIn("<svg", self.read("runs/s/report.html"))
        self.assertEqual(self.left_over(), [])

    def test_the_second_time_nothing_runs(self):
        self.sweep(self.TEXT)
        first, rows = self.starts(), self.rows()
        out, _ = self.sweep(self.TEXT)
        self.assertIn("6 of them are over", out)
        self.assertEqual(self.starts(), first)
        self.assertEqual(self.rows(), rows)

    def test_more_values_run_only_what_is_new(self):
        self.sweep(self.TEXT)
        self.sweep(self.TEXT.replace("0.3,", "0.3, 0.4,"))
        self.assertEqual(len(self.starts()), 8)
        self.assertEqual(self.starts()[-2:], [("quality=0.4,steps=1", 0), ("quality=0.4,steps=2", 0)])

    def test_finished_runs_with_another_configuration_are_not_taken_for_these(self):
        self.sweep(self.TEXT)
        _, err = self.sweep(self.TEXT + "set: {run.epochs: 2}\n", code=2)
        self.assertIn("with run.epochs: 1 instead of 2", err)
        self.assertEqual(len(self.starts()), 6)

    def test_ranking_by_the_least(self):
        self.sweep(self.TEXT + "rank_by: eval_loss\n")
        self.assertEqual(self.rows()[0]["fake.quality"], "0.9")

    def test_dry_run_leaves_nothing(self):
        out, _ = self.sweep(self.TEXT, "--dry-run")
        self.assertEqual(out.count(": to run\n"), 6)
        self.assertIn("--set fake.quality=0.3 --set fake.steps=1", out)
        self.assertFalse((self.folder / "runs").exists())

    def test_threads_stay_within_the_cores(self):
        cores = len(os.sched_getaffinity(0))
        self.sweep("parameters: {fake.quality: [0.1]}\n")
        self.assertEqual(self.read("runs/s/starts.txt").split()[2], str(cores))
        self.write("s.yaml", f"config: base.yaml\nlaunch: {{parallel: {cores + 1}}}\nparameters: {{fake.steps: [1]}}\n")
        _, err = self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, code=2)
        self.assertIn(f"need {cores + 1} cores, this machine has {cores}", err)


class Ends(SweepTest):
    def test_diverged_runs_are_recorded_and_not_repeated(self):
        text = "parameters: {fake.fate: [diverge, done], fake.quality: [0.5]}\n"
        self.sweep(text)
        self.assertEqual([(row["rank"], row["status"]) for row in self.rows()], [("1", "done"), ("", "diverged")])
        self.sweep(text)
        self.assertEqual(len(self.starts()), 2)

    def test_failed_runs_do_not_end_the_sweep_and_are_repeated(self):
        text = "parameters: {fake.fate: [die, done], fake.quality: [0.5]}\n"
        out, _ = self.sweep(text, code=1)
        self.assertRegex(out, r"failed after \d+ s \(exit code 1\): error: the disk is gone")
        self.assertEqual([row["status"] for row in self.rows()], ["done", "failed"])
        self.sweep(text, code=1)
        self.assertEqual([name for name, _ in self.starts()],
                         ["fate=die,quality=0.5", "fate=done,quality=0.5", "fate=die,quality=0.5"])

    def test_a_refused_run_ends_the_sweep_with_its_message(self):
        out, _ = self.sweep("parameters: {fake.fate: [refuse, done]}\n", code=2)
        self.assertIn("error: fate=refuse: error: no such data set", out)
        self.assertEqual(len(self.starts()), 1)

    def test_a_refused_configuration_starts_nothing(self):
        _, err = self.sweep("parameters: {fake.wrong: [1]}\n", code=2)
        self.assertIn("wrong=1: dcs3gd-train refuses the configuration:\n--set fake.wrong=1: fake.wrong: unknown", err)
        self.assertFalse((self.folder / "runs").exists())


class Interruptions(SweepTest):
    TEXT = "parameters: {fake.quality: [0.1, 0.2], fake.steps: [400]}\n"
    FIRST = "quality=0.1,steps=400"

    def begin(self, text=TEXT):
        self.write("s.yaml", HEAD + text)
        metrics = self.folder / "runs/s" / self.FIRST / "metrics.jsonl"
        size = metrics.stat().st_size if metrics.exists() else 0
        process = self.start("sweep.py", "s.yaml", "--program", FAKE_TRAINER)
        self.assertTrue(wait_until(lambda: metrics.exists() and metrics.stat().st_size > size + 500))
        return process

    def test_interrupted_runs_continue(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.begin()
            os.kill(process.pid, number)
            out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 75, out + err)
            self.assertIn("the same command continues them", out)
            self.assertEqual(self.left_over(), [])
        self.assertEqual([row["status"] for row in self.rows()], ["stopped", "to run"])
        out, _ = self.sweep(self.TEXT)
        (first, second, third, last) = self.starts()
        self.assertEqual((first, last), ((self.FIRST, 0), ("quality=0.2,steps=400", 0)))
        self.assertTrue(0 < second[1] < third[1], self.starts())
        self.assertEqual([row["status"] for row in self.rows()], ["done", "done"])

    def test_a_second_signal_kills_runs_that_do_not_stop(self):
        self.write("s.yaml", HEAD + "parameters: {fake.fate: [deaf], fake.steps: [100000]}\n")
        process = self.start("sweep.py", "s.yaml", "--program", FAKE_TRAINER)
        self.assertTrue(wait_until((self.folder / "runs/s/starts.txt").exists))
        time.sleep(0.5)  # until the run is deaf
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.5)
        self.assertIsNone(process.poll(), "it waits for the run")
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, out)
        self.assertEqual(self.left_over(), [])

    def test_a_second_sweep_in_the_folder_is_refused(self):
        process = self.begin()
        _, err = self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, code=2)
        self.assertIn("in use by another sweep", err)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)

    def test_a_killed_sweep_is_continued(self):
        process = self.begin()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        self.assertTrue(wait_until(lambda: not self.left_over()))  # its run ends by itself
        self.sweep(self.TEXT)
        self.assertEqual([name for name, _ in self.starts()], [self.FIRST, "quality=0.2,steps=400"])


class Random(SweepTest):
    TEXT = """
search: random
runs: 6
seed: 3
parameters:
  fake.quality: {min: 0.1, max: 0.9}
  optimizer.lr.base: {min: 1e-4, max: 1, scale: log}
  fake.steps: {min: 1, max: 4, integer: true}
  algorithm.name: [ssgd, s3gd]
"""

    def plan(self, text):
        self.write("s.yaml", HEAD + text)
        return sweep_plan.planned_runs(sweep_plan.read_sweep(self.folder / "s.yaml"))

    def test_draws(self):
        runs = self.plan(self.TEXT.replace("runs: 6", "runs: 200"))
        names = [run.name for run in runs]
        self.assertEqual(len(set(names)), 200)
        for run in runs:
            self.assertTrue(0.1 <= run.values["fake.quality"] <= 0.9)
            self.assertTrue(1e-4 <= run.values["optimizer.lr.base"] <= 1)
            self.assertIn(run.values["fake.steps"], (1, 2, 3, 4))
        below = sum(run.values["optimizer.lr.base"] < 1e-2 for run in runs)
        self.assertTrue(70 <= below <= 130, "half of the logarithmic range")
        self.assertEqual([run.name for run in self.plan(self.TEXT)], names[:6], "fewer runs are the first of more")
        self.assertNotEqual([run.name for run in self.plan(self.TEXT.replace("seed: 3", "seed: 4"))], names[:6])

    def test_it_runs(self):
        self.sweep(self.TEXT)
        accuracies = [float(row["best_top1"]) for row in self.rows()]
        self.assertEqual((len(accuracies), accuracies), (6, sorted(accuracies, reverse=True)))

    def test_too_few_combinations(self):
        _, err = self.sweep("search: random\nruns: 9\nparameters: {fake.steps: [1, 2, 3]}\n", code=2)
        self.assertIn("have no 9 different combinations, only about 3", err)


class Refusals(SweepTest):
    def refuse(self, text, *words, head=HEAD):
        self.write("s.yaml", head + text)
        _, err = self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, code=2)
        for word in words:
            self.assertIn(word, err)
        self.assertFalse((self.folder / "runs").exists())
        return err

    def test_all_mistakes_at_once_with_their_places(self):
        err = self.refuse("paramters: {a.b: [1]}\nsearch: gird\nseed: -1\nrank_by: top1\nlaunch: {rank: 2}\n",
                          "s.yaml:2:1: paramters: unknown key. Did you mean parameters?",
                          "s.yaml:3:9: search: must be one of grid, random; found gird. Did you mean grid?",
                          "s.yaml:4:7: seed: must be a whole number of at least 0; found -1",
                          "s.yaml:5:10: rank_by: must be one of best_top1,",
                          "s.yaml:6:10: launch.rank: unknown key. Did you mean ranks?", head="config: base.yaml\n")
        self.assertEqual(len(err.splitlines()), 5)

    def test_what_is_missing(self):
        self.refuse("seed: 1\n", "config: is missing", "parameters: is missing", head="")
        self.refuse("search: random\nparameters: {a.b: [1]}\n", "runs: is missing")
        self.refuse("", "the file is empty", head="")

    def test_variants(self):
        for text, words in (("{}", "has no variant"), ("{a b: {}}", "must be a short name"), ("{a: 1}", "expected KEY"),
                            ("{a: {lr: 1}}", "variants.a.lr: must be a whole key"),
                            ("{a: {f.b: 1}}\nset: {f.b: 2}", "variants.a.f.b: stands in parameters or set, too")):
            self.refuse(f"variants: {text}\n", words)

    def test_parameters(self):
        for text, words in (("{a.b: 1}", "must be a list of values or a range"), ("{a.b: []}", "the list is empty"),
                            ("{a.b: [1, 1]}", "1 stands there twice"), ("{a.b: [{c: 1}]}", "a value is a number"),
                            ("{lr: [1]}", "must be a whole key"), ("{run.name: [a]}", "is set by the sweep"),
                            ("{a.b: [1], a.b: [2]}", "parameters.a.b: stands there twice"),
                            ("{a.b: {min: 1, max: 2}}", "a range needs search: random"),
                            ("{a.b: {min: 2, max: 1}}", "min must be below max"),
                            ("{a.b: {min: 0, max: 1, scale: log}}", "needs a min above 0"),
                            ("{a.b: {min: x, max: 1}}", "a.b.min: must be a number; found x"),
                            ("{a.b: {mni: 1, max: 1}}", "Did you mean min?"),
                            ("{a.b: {min: 1, max: 3, scale: lgo}}", "must be linear or log")):
            with self.subTest(text):
                self.refuse(f"parameters: {text}\n", "s.yaml:", words)
        self.refuse("parameters: {a.b: [1]}\nset: {a.b: 2}\n", "set.a.b: is searched, too")
        self.refuse("parameters: {a.b: [1]}\nruns: 3\n", "runs: belongs to search: random")

    def test_yaml_mistakes_and_missing_files(self):
        self.refuse("parameters: {a.b: [1}\n", "s.yaml:3:21:")
        self.assertIn("nowhere.yaml: No such file", self.run_script("sweep.py", "nowhere.yaml", code=2)[1])
        self.write("s.yaml", HEAD + "parameters: {a.b: [1]}\n")
        self.assertIn("no such program", self.run_script("sweep.py", "s.yaml", "--program", "nowhere", code=2)[1])

    def test_slurm_that_is_not_there(self):
        self.write("s.yaml", "config: b\nlaunch: {kind: slurm}\nparameters: {a.b: [1]}\n")
        _, err = self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, code=2,
                                 environment={"PATH": "/nowhere"})
        self.assertIn("there is no sbatch on this machine", err)


class Slurm(SweepTest):
    """With stand-ins for sbatch and scancel: what is asked of Slurm, and that only own jobs are cancelled."""

    def setUp(self):
        super().setUp()
        self.tool("sbatch", """echo "$@" >> asked.txt
echo $$
for argument in "$@"; do case $argument in --output=*) output=${argument#--output=} ;; esac; done
while [[ $1 == -* ]]; do shift; done
trap 'kill -TERM $run' TERM
shift
OMP_NUM_THREADS=8 "$DCS3GD_TRAIN" "$@" >> "$output" 2>&1 &
run=$!
wait $run || { wait $run; exit $?; }""")
        self.tool("scancel", 'echo "$@" >> cancelled.txt; kill -TERM "$@"')
        self.environment = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    def tool(self, name, text):
        self.write(f"bin/{name}", f"#!/usr/bin/env bash\n{text}\n").chmod(0o755)

    def slurm_sweep(self, parameters):
        self.write("s.yaml", "config: base.yaml\nlaunch: {kind: slurm, ranks: 4, threads: 8, parallel: 1, "
                   f"slurm_options: [--time=5]}}\nparameters: {parameters}\n")

    def test_jobs(self):
        self.slurm_sweep("{fake.fate: [done, die], fake.quality: [0.5]}")
        out, _ = self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, code=1, environment=self.environment)
        self.assertRegex(out, r"failed after \d+ s \(exit code 1\): error: the disk is gone")
        asked = self.read("asked.txt").splitlines()
        self.assertEqual(len(asked), 2)
        for words in ("--wait", "--job-name=fate=done,quality=0.5", "--ntasks=4", "--cpus-per-task=8", "--time=5",
                      "train_slurm.sbatch --config base.yaml --set fake.fate=done"):
            self.assertIn(words, asked[0])
        self.assertEqual([row["status"] for row in self.rows()], ["done", "failed"])

    def test_an_interruption_cancels_own_jobs(self):
        self.slurm_sweep("{fake.quality: [0.1], fake.steps: [2000]}")
        process = self.start("sweep.py", "s.yaml", "--program", FAKE_TRAINER, environment=self.environment)
        metrics = self.folder / "runs/s/quality=0.1,steps=2000/metrics.jsonl"
        self.assertTrue(wait_until(lambda: metrics.exists() and metrics.stat().st_size > 500))
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, out + err)
        job = self.read("runs/s/consoles/quality=0.1,steps=2000.txt").split()[0]
        self.assertEqual(self.read("cancelled.txt").split(), [job])
        self.assertEqual(self.rows()[0]["status"], "stopped")
        self.assertEqual(self.left_over(), [])


class Values(unittest.TestCase):
    def test_settings_are_yaml_on_one_line(self):
        for value, text in ((0.05, "0.05"), (True, "true"), (None, "null"), ("cosine", "cosine"),
                            ([15, 25], "[15, 25]"), ("1e-3", "1e-3"), ("a: b", "'a: b'"), ("x" * 300, "x" * 300)):
            self.assertEqual(sweep_plan.value_text(value), text)

    def test_variants_are_settings_that_belong_together(self):
        sweep = sweep_plan.Sweep("s", "c", parameters={"variant": ["plain", "both"], "run.seed": [1, 2]}, set={"a.b": 1},
                                 variants={"plain": {}, "both": {"a.c": 2, "a.d": 3}})
        runs = sweep_plan.planned_runs(sweep)
        self.assertEqual([run.name for run in runs], ["plain,seed=1", "plain,seed=2", "both,seed=1", "both,seed=2"])
        self.assertEqual(runs[0].settings[:2], ["a.b=1", "run.seed=1"])
        self.assertEqual(runs[3].settings[:4], ["a.b=1", "run.seed=2", "a.c=2", "a.d=3"])

    def test_names(self):
        sweep = sweep_plan.Sweep("s", "c", parameters={"model.name": ["a/b"], "algorithm.name": ["x"],
                                                       "optimizer.lr.milestones": [[1, 2]]})
        run, = sweep_plan.planned_runs(sweep)
        self.assertEqual(run.name, "model.name=a_b,algorithm.name=x,lr.milestones=1_2")
        sweep.parameters = {f"a.k{index}": [math.pi] for index in range(30)}
        self.assertLessEqual(len(sweep_plan.planned_runs(sweep)[0].name), 150)


class RealProgram(ScriptTest):
    """dcs3gd-train itself on a network of a tenth of a second."""

    CONFIG = """\
run: {epochs: 2}
model: {name: lenet5, classes: 2}
data: {format: synthetic, image_size: 16, channels: 1, synthetic: {train_images: 64, eval_images: 20}}
algorithm: {name: ssgd, batch_per_worker: 8}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 0}}
"""

    def test_a_sweep(self):
        self.write("folder/tiny.yaml", self.CONFIG)
        self.write("folder/sweep.yaml", "config: tiny.yaml\n"
                   "parameters: {optimizer.lr.base: [0.02, 1e6], data.normalize.mean: [[0.5]], algorithm.name: "
                   "[ssgd, dc_s3gd]}\nset: {data.normalize.std: [0.25]}\n")
        for _ in range(2):
            out, _ = self.run_script("sweep.py", "folder/sweep.yaml", "--program", PROGRAM)
        self.assertIn("4 of them are over", out)
        with open(self.folder / "runs/sweep/results.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["status"] for row in rows], ["done", "done", "diverged", "diverged"])
        self.assertEqual([row["optimizer.lr.base"] for row in rows], ["0.02", "0.02", "1e6", "1e6"])
        self.assertTrue((self.folder / "runs/sweep" / rows[0]["run"] / "model.safetensors").exists())
        self.assertIn("diverged", self.read("runs/sweep/report.html"))

    def test_a_wrong_key(self):
        self.write("tiny.yaml", self.CONFIG)
        self.write("sweep.yaml", "config: tiny.yaml\nparameters: {optimizer.lr.bose: [1]}\n")
        _, err = self.run_script("sweep.py", "sweep.yaml", "--program", PROGRAM, code=2)
        self.assertIn("Did you mean optimizer.lr.base?", err)
        self.assertFalse((self.folder / "runs").exists())


if __name__ == "__main__":
    PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
