#!/usr/bin/python3
"""Runs whose disk fails them: what was saved before stays whole, the message says what happened, training goes on.

    storage_test.py PROGRAM MPIRUN SHIM [unittest's arguments]

SHIM is storage_faults.cpp as a library, preloaded into the program: a real disk cannot be made to fail at a chosen
file, and permissions do not bind root, as whom containers run.
"""

import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from cli_support import CliTest, main
from processes import TIMEOUT_S, wait_until

# Checkpoints of steps 4, 8, … 16.
RUN = """\
run: {epochs: 2, name: run}
model: {name: lenet5, classes: 2}
data: {format: synthetic, image_size: 16, channels: 1, synthetic: {train_images: 64, eval_images: 20}}
algorithm: {name: dc_s3gd, batch_per_worker: 8}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 0}}
checkpoint: {every_epochs: null, every_steps: 4, keep: 9}
"""
CHECKPOINTS = ["step-00000004", "step-00000008", "step-00000012", "step-00000016"]


class StorageTest(CliTest):
    shim = ""

    def setUp(self):
        super().setUp()
        (self.folder / "run.yaml").write_text(RUN)

    def run_with(self, fault, *arguments, name="run", **options):
        """`fault`: call, errno, part of the path; none: a sound disk."""
        environment = {}
        if fault:
            call, number, part = fault
            environment = {"LD_PRELOAD": self.shim, "STORAGE_FAULT": f"{call} {int(number)} {part}"}
        return self.run_program("--config", "run.yaml", "--set", f"run.name={name}", *arguments,
                                environment=environment, **options)

    def undisturbed(self, **options):
        result = self.run_with(None, name="sound", **options)
        self.assertEqual(result.code, 0, result)

    def model(self, name):
        return (self.folder / f"runs/{name}/model.safetensors").read_bytes()

    def checkpoints(self):
        return self.names("runs/run/checkpoints")

    def check_whole(self, *names):
        """The checkpoints are what an undisturbed run has written."""
        for name in names:
            for file in (self.folder / f"runs/sound/checkpoints/{name}").iterdir():
                if file.name != "manifest.json":  # it knows the run's name
                    here = self.folder / "runs/run/checkpoints" / name / file.name
                    self.assertEqual(here.read_bytes(), file.read_bytes(), f"{name}/{file.name}")


class Checkpoints(StorageTest):
    def test_one_that_cannot_be_written_costs_itself_alone(self):
        self.undisturbed()
        for call, number in (("write", errno.EIO), ("fsync", errno.EIO), ("rename", errno.EIO), ("open", errno.EROFS),
                             ("mkdir", errno.EACCES), ("write", errno.ENOSPC), ("write", errno.EDQUOT)):
            with self.subTest(call, number=number):
                shutil.rmtree(self.folder / "runs/run", ignore_errors=True)
                result = self.run_with((call, number, "step-00000008"))
                self.assertEqual(result.code, 0, result)
                self.assertIn("no checkpoint of step 8", result.err)
                self.assertIn(os.strerror(number), result.err)
                self.assertEqual(result.err.count("warning"), 1, result)
                others = [name for name in CHECKPOINTS if name != "step-00000008"]
                self.assertEqual(self.checkpoints(), others)
                self.check_whole(*others)
                self.assertEqual(self.model("run"), self.model("sound"))

    def test_short_writes_are_no_faults(self):
        self.undisturbed()
        result = self.run_with(("short", 0, "runs/run"))
        self.assertEqual((result.code, result.err), (0, ""), result)
        self.assertEqual(self.checkpoints(), CHECKPOINTS)
        self.check_whole(*CHECKPOINTS)
        self.assertEqual(self.model("run"), self.model("sound"))

    def test_the_last_good_one_stays_and_is_gone_on_from(self):
        self.undisturbed()
        self.assertEqual(self.run_with(None, "--set", "run.max_steps=4").code, 0)
        for call in ("write", "fsync", "rename"):
            result = self.run_with((call, errno.EIO, "checkpoints/step-"))
            self.assertEqual(result.code, 1, result)
            self.assertIn("error: ", result.err)
            self.assertIn(os.strerror(errno.EIO), result.err)
            self.assertEqual(self.checkpoints(), CHECKPOINTS[:1])
            self.check_whole(CHECKPOINTS[0])
            self.assertEqual(self.read_jsonl("runs/run/metrics.jsonl")[-1]["status"], "failed")
        self.assertEqual(self.run_with(None).code, 0)
        self.assertEqual(self.model("run"), self.model("sound"))

    def test_a_manifest_that_cannot_be_written(self):
        result = self.run_with(("write", errno.EIO, "step-00000008.tmp/manifest.json"))
        self.assertEqual(result.code, 0, result)
        self.assertIn("manifest.json", result.err)
        self.assertNotIn("step-00000008", self.checkpoints())

    def test_the_disk_of_one_rank(self):
        two = ["--set", "algorithm.batch_per_worker=4"]
        result = self.run_with(("write", errno.EIO, "step-00000008.tmp/worker-00001"), *two, ranks=2)
        self.assertEqual(result.code, 0, result)
        self.assertIn("no checkpoint of step 8: rank 1 on ", result.err)
        self.assertEqual(self.checkpoints(), [name for name in CHECKPOINTS if name != "step-00000008"])


class Hanging(StorageTest):
    TWO = ["--set", "algorithm.batch_per_worker=4", "--set", "comm.timeout_s=3"]

    def test_storage_of_one_rank_that_hangs_longer_than_the_time_out(self):
        self.undisturbed()
        for call, file in (("hang", "step-00000008.tmp/worker-00001"), ("hang", "step-00000008.tmp/manifest"),
                           ("hang", "best.safetensors"), ("hang", "run/model.safetensors"),
                           ("hang_mkdir", "step-00000008.tmp")):
            with self.subTest(call, file=file):
                shutil.rmtree(self.folder / "runs/run", ignore_errors=True)
                result = self.run_with((call, 6, file), *self.TWO, ranks=2)
                self.assertEqual((result.code, result.err), (0, ""), result)
                self.assertEqual(self.checkpoints(), CHECKPOINTS)

    def test_a_checkpoint_is_left_out_while_its_predecessor_hangs(self):
        result = self.run_with(("hang", 25, "step-00000008.tmp/worker-00001"), *self.TWO, ranks=2)
        self.assertEqual(result.code, 0, result)
        self.assertIn("no checkpoint of step 12: that of step 8 is being written since 0:1", result.err)
        self.assertEqual(self.checkpoints(), [name for name in CHECKPOINTS if name != "step-00000012"])

    def test_a_manifest_that_hangs_under_slow_steps(self):
        # What a step told of its predecessor's checkpoint arrives when that is in its next stage.
        result = self.run_with(("hang", 20, "manifest.json"), "--set", "algorithm.batch_per_worker=256", "--set",
                               "data.synthetic.train_images=2048", "--set", "checkpoint.every_steps=1", "--set",
                               "comm.timeout_s=5", "--set", "run.max_steps=6", "--set", "run.epochs=9", ranks=2)
        self.assertEqual(result.code, 0, result)


class FullDisk(StorageTest):
    def test_a_run_whose_checkpoints_keep_failing_ends_with_an_error_and_its_weights(self):
        result = self.run_with(("write", errno.ENOSPC, "checkpoints/step-"), "--set", "run.epochs=1000000")
        self.assertEqual(result.code, 1, result)
        self.assertIn("No space left on device", result.err)
        self.assertIn("8 in a row have failed, so the run ends", result.err)
        self.assertRegex(result.err, r"training goes on, with \d+\.\d hours of it at risk")
        self.assertLessEqual(result.err.count("warning"), 6, result)
        self.assertIn("the weights alone are in runs/run/model.safetensors", result.err)
        self.assertEqual(self.read_jsonl("runs/run/metrics.jsonl")[-1]["status"], "failed")
        self.assertEqual(self.run_with(None, "--eval").code, 0)


class Claims(StorageTest):
    ENDLESS = ["--config", "run.yaml", "--set", "run.epochs=1000000"]

    def start_endless(self, **options):
        process = self.start(*self.ENDLESS, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
                             **options)
        self.assertTrue(wait_until((self.folder / "runs/run/checkpoints/step-00000004").exists))
        return process

    def test_a_file_system_without_locks(self):
        no_locks = {"LD_PRELOAD": self.shim, "STORAGE_FAULT": f"flock {int(errno.ENOSYS)} .lock"}
        process = self.start_endless(environment=no_locks)
        before = self.read_jsonl("runs/run/metrics.jsonl")
        self.refuse("--config", "run.yaml", environment=no_locks, says=["in use by process", "cannot lock"])
        self.assertEqual(self.read_jsonl("runs/run/metrics.jsonl")[:len(before)], before)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
        result = self.run_with(("flock", errno.ENOSYS, ".lock"), "--set", "run.max_steps=1")
        self.assertEqual(result.code, 0, result)

    def test_a_lock_file_that_goes_to_another_process_ends_the_run(self):
        process = self.start_endless()
        lock = self.folder / "runs/run/.lock"
        lock.unlink()
        lock.write_text("process 1 on elsewhere since now (00000000)\nbeat 7\n")
        err = process.communicate(timeout=TIMEOUT_S)[1]
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("was taken over by process 1 on elsewhere", err)
        self.assertIn("beat 7", lock.read_text())
        self.assertNotIn('"event":"end"', self.read("runs/run/metrics.jsonl"))

    def test_a_lock_file_that_is_removed_is_made_anew(self):
        process = self.start_endless()
        lock = self.folder / "runs/run/.lock"
        lock.unlink()
        self.assertTrue(wait_until(lock.exists))
        self.refuse("--config", "run.yaml", says="in use by process")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 75)


class OtherFiles(StorageTest):
    def test_training_goes_on_without_its_records(self):
        self.undisturbed()
        for call, file in (("write", "metrics.jsonl"), ("write", "events.out.tfevents"), ("write", "log.txt"),
                           ("write", "best.safetensors"), ("fsync", "best.safetensors"), ("rename", "best.safetensors"),
                           ("write", "summary.json")):
            with self.subTest(call, file=file):
                shutil.rmtree(self.folder / "runs/run", ignore_errors=True)
                result = self.run_with((call, errno.EIO, f"runs/run/{file}"))
                self.assertEqual(result.code, 0, result)
                self.assertRegex(result.err, rf"warning.*{file}")
                self.assertIn(os.strerror(errno.EIO), result.err)
                self.assertEqual(self.checkpoints(), CHECKPOINTS)
                self.assertEqual(self.model("run"), self.model("sound"))

    def test_the_final_model(self):
        result = self.run_with(("write", errno.EIO, "runs/run/model.safetensors"))
        self.assertEqual(result.code, 1, result)
        self.assertIn("model.safetensors: Input/output error", result.err)
        self.assertEqual(self.run_with(None).code, 0)
        self.undisturbed()
        self.assertEqual(self.model("run"), self.model("sound"))


class Vanished(StorageTest):
    def test_a_run_folder_that_is_removed(self):
        process = self.start("--config", "run.yaml", "--set", "run.epochs=1000000", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             encoding="utf-8")
        folder = self.folder / "runs/run"
        self.assertTrue(wait_until((folder / "checkpoints/step-00000004").exists))
        removed = self.folder / "removed"
        folder.rename(removed)  # at once: a checkpoint may be written meanwhile
        shutil.rmtree(removed)
        metrics = folder / "metrics.jsonl"
        self.assertTrue(wait_until(metrics.exists))
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=TIMEOUT_S)[1]
        self.assertEqual(process.returncode, 75, err)
        self.assertIn("metrics.jsonl was removed", err)
        self.assertIn('"status":"stopped"', metrics.read_text().splitlines()[-1])
        self.assertTrue((folder / "summary.json").exists())

    def test_a_run_folder_that_goes_away(self):
        process = self.start("--config", "run.yaml", "--set", "run.epochs=1000000", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             encoding="utf-8")
        folder, away = self.folder / "runs/run", self.folder / "runs/away"
        self.assertTrue(wait_until((folder / "checkpoints/step-00000004").exists))
        folder.rename(away)
        self.assertTrue(wait_until(lambda: any(folder.glob("checkpoints/step-????????"))))
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=TIMEOUT_S)[1]
        self.assertEqual(process.returncode, 75, err)
        self.assertEqual(err.count("has vanished"), 1, err)
        for place in ("runs/run", "runs/away"):
            newest = [name for name in self.names(f"{place}/checkpoints") if not name.endswith(".tmp")][-1]
            evaluation = self.run_with(None, "--eval", f"{place}/checkpoints/{newest}")
            self.assertEqual(evaluation.code, 0, evaluation)


if __name__ == "__main__":
    StorageTest.shim = str(pathlib.Path(sys.argv.pop(3)).resolve())
    main()
