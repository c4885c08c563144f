"""scripts/sweep.py: sweeps that are interrupted, repeated, or hold runs that go wrong.

    /usr/bin/python3 sweep_test.py DCS3GD_TRAIN [unittest's arguments]
"""

import csv
import os
import pathlib
import signal
import sys
import time
import unittest

from scripts_support import ScriptTest
from processes import wait_until
from sweep_support import FAKE_TRAINER, HEAD, SweepTest

PROGRAM = ""


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
