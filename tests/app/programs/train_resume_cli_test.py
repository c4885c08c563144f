"""dcs3gd-train as a user meets it: runs that are stopped and continued. Usage: cli_support.py."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from train_cli_support import STEPS, TrainTest, setting
from cli_support import main
from processes import TIMEOUT_S, processes_with, wait_until


def kill_if_alive(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Resume(TrainTest):
    """Runs that are stopped and continued."""

    MANY = setting(run__epochs=1000000)

    def steps(self, name):
        """The steps in metrics.jsonl, without what depends on the clock."""
        keys = ("step", "epoch", "loss", "lr", "grad_norm", "lambda", "distance_norm")
        return [[step[key] for key in keys] for step in self.of(self.read_jsonl(f"runs/{name}/metrics.jsonl"), "step")]

    def start_long(self, name, *arguments, ranks=None, **options):
        """A run far from its end, with a checkpoint and on its way."""
        process = self.start("--config", "tiny_run.yaml", *self.MANY, *setting(run__name=name), *arguments,
                             ranks=ranks, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", **options)
        self.assertTrue(wait_until((self.folder / f"runs/{name}/best.safetensors").exists))
        return process

    def has_steps(self, name):
        metrics = self.folder / f"runs/{name}/metrics.jsonl"
        return metrics.exists() and metrics.read_text().count("\n") > 20

    def ranks_of(self, process, name):
        return [pid for pid in processes_with(f"run.name={name}") if pid != process.pid]

    def end_of(self, process, name):
        """Exit code and end event of a run that was told to stop."""
        code = process.wait(timeout=TIMEOUT_S)
        self.assertTrue(wait_until(lambda: not processes_with(f"run.name={name}"), 10))
        return code, self.read_jsonl(f"runs/{name}/metrics.jsonl")[-1]

    def check_continues(self, name, *arguments, ranks=None):
        """The same command goes on as if nothing had been: compared with a run that was not disturbed."""
        stopped_at = self.steps(name)[-1][0]
        more = setting(run__max_steps=stopped_at + 20)
        _, events = self.train(*self.MANY, *more, *arguments, ranks=ranks, name=name)
        self.assertEqual(self.of(events, "start")[-1]["resumed_from"], stopped_at)
        self.train(*self.MANY, *more, *arguments, ranks=ranks, name=f"{name}-whole")
        self.assertEqual(self.model_hash(name), self.model_hash(f"{name}-whole"))
        self.assertEqual(self.steps(name), self.steps(f"{name}-whole"))

    def test_a_finished_run_says_so(self):
        self.train()
        before = self.read("runs/run/metrics.jsonl")
        result, _ = self.train()
        self.assertIn("is finished", result.out)
        self.assertEqual(self.read("runs/run/metrics.jsonl"), before)
        _, events = self.train(*setting(run__epochs=3))
        self.assertEqual([step["step"] for step in self.of(events, "step")], list(range(1, 25)))

    def test_a_finished_run_says_that_its_best_model_is_damaged(self):
        self.train(name="run")
        self.assertEqual(self.train(name="run")[0].err, "")
        best = self.folder / "runs/run/best.safetensors"
        content = bytearray(best.read_bytes())
        content[-1] ^= 1
        best.write_bytes(content)
        result, _ = self.train(name="run")
        self.assertIn("is finished", result.out)
        self.assertIn("best.safetensors is not the file that the run has written", result.err)

    def test_a_finished_run_says_so_without_its_data(self):
        data = self.easy_data()
        self.train(*data, *setting(run__epochs=1))
        shutil.rmtree(self.folder / "i")
        for ranks in (None, 2):
            result, _ = self.train(*data, *setting(run__epochs=1), ranks=ranks)
            self.assertEqual(result.out.count("is finished"), 1)

    def test_signals_stop_it_after_a_checkpoint(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
            with self.subTest(number):
                name = f"run{number}"
                process = self.start_long(name, *setting(algorithm__name="dc_s3gd"))
                process.send_signal(number)
                code, end = self.end_of(process, name)
                self.assertEqual((code, end["status"], end["exit_code"]), (75, "stopped", 75))
                self.check_continues(name, *setting(algorithm__name="dc_s3gd"))

    def test_a_signal_while_it_starts(self):
        process = self.start("--config", "tiny_run.yaml", *self.MANY, *setting(run__name="run"),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def catches_signals():
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
            return caught >> (signal.SIGTERM - 1) & 1

        self.assertTrue(wait_until(catches_signals))
        process.send_signal(signal.SIGTERM)
        code, end = self.end_of(process, "run")
        self.assertEqual((code, end["status"]), (75, "stopped"))

    def test_who_ignores_hang_ups_goes_on(self):
        process = self.start_long("run", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        self.assertIsNone(process.poll())

    def test_a_signal_in_a_long_step(self):
        """However long a step takes, up to the time-out, the run is saved after it."""
        name = f"long{os.getpid()}"
        process, waiting = self.stuck(name, number=signal.SIGUSR1)
        time.sleep(12)
        for pid in self.ranks_of(process, name):
            os.kill(pid, signal.SIGCONT)
        code, end = self.end_of(process, name)
        self.assertEqual((code, end["status"]), (75, "stopped"))

    def test_a_signal_to_any_one_rank(self):
        for algorithm in ("ssgd", "s3gd", "dc_s3gd"):
            for rank in (0, 1):
                with self.subTest(algorithm, rank=rank):
                    name = f"{algorithm}-{rank}"
                    process = self.start_long(name, *setting(algorithm__name=algorithm), ranks=2)
                    os.kill(self.ranks_of(process, name)[rank], signal.SIGTERM)
                    code, end = self.end_of(process, name)
                    self.assertEqual((code, end["status"]), (75, "stopped"))
                    self.check_continues(name, *setting(algorithm__name=algorithm), ranks=2)

    def test_signals_to_mpirun(self):
        """mpirun makes SIGTERM of Ctrl-C, with an exit code of its own, and kills after a while; SIGUSR1 goes through."""
        patient = {"OMPI_MCA_odls_base_sigkill_timeout": "3"}  # one second by default: a busy machine may need more
        for number, codes in ((signal.SIGINT, (1, 75)), (signal.SIGTERM, (1, 75)), (signal.SIGUSR1, (75,))):
            with self.subTest(number):
                name = f"run{number}"
                process = self.start_long(name, ranks=2, environment=patient)
                process.send_signal(number)
                code, end = self.end_of(process, name)
                self.assertIn(code, codes)
                self.assertEqual((end["status"], end["exit_code"]), ("stopped", 75))
                self.check_continues(name, ranks=2)

    def stuck(self, name, *arguments, number=signal.SIGINT):
        """Rank 0 of a run whose rank 1 stands still."""
        process = self.start("--config", "tiny_run.yaml", *self.MANY,
                             *setting(run__name=name, run__eval_every_epochs=0, checkpoint__every_epochs="null"),
                             *arguments, ranks=2, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
        self.assertTrue(wait_until(lambda: self.has_steps(name)))
        waiting, stopped = self.ranks_of(process, name)
        os.kill(stopped, signal.SIGSTOP)
        self.addCleanup(kill_if_alive, stopped)
        time.sleep(0.5)
        os.kill(waiting, number)
        time.sleep(1)
        self.assertIn(waiting, self.ranks_of(process, name), "it waits for the end of its step")
        return process, waiting

    def test_a_second_interrupt_ends_it_at_once(self):
        name = f"stuck{os.getpid()}"  # other tests on this machine must not be taken for it
        process, waiting = self.stuck(name)
        os.kill(waiting, signal.SIGINT)
        self.assertTrue(wait_until(lambda: waiting not in self.ranks_of(process, name), 2))

    def test_a_step_that_never_ends_does_not_keep_it(self):
        name = f"stuck{os.getpid()}"  # other tests on this machine must not be taken for it
        process, waiting = self.stuck(name, *setting(comm__timeout_s=5))
        self.assertTrue(wait_until(lambda: waiting not in self.ranks_of(process, name), 20))
        self.assertNotEqual(process.wait(timeout=15), 0)
        self.assertRegex(process.stderr.read(), "the step does not end|no progress for")

    def test_a_time_limit_that_is_over(self):
        end = str(int(time.time()) + 60)
        for arguments in ([], ["--dry-run"]):
            self.refuse_run(*arguments, says=f"SLURM_JOB_END_TIME={end}", environment={"SLURM_JOB_END_TIME": end})

    def test_time_limit(self):
        process = self.start("--config", "tiny_run.yaml", *self.MANY, *setting(run__name="run",
                             run__time_limit_minutes=0.02), ranks=2, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        code, end = self.end_of(process, "run")
        self.assertEqual((code, end["status"]), (75, "stopped"))
        self.check_continues("run", ranks=2)

    def test_the_end_of_a_slurm_job(self):
        result = self.run_program("--config", "tiny_run.yaml", *self.MANY, *setting(run__name="run"),
                                  environment={"SLURM_JOB_END_TIME": str(int(time.time()) + 95)})
        self.assertEqual(result.code, 75, result)
        self.assertIn("time limit", result.out)

    def test_what_may_not_change_is_listed(self):
        self.train(*setting(run__max_steps=4))
        self.refuse("--config", "tiny_run.yaml", *setting(run__name="run", optimizer__momentum=0.5, algorithm__name="s3gd"),
                    says=["optimizer.momentum: 0.9 -> 0.5", "algorithm.name: ssgd -> s3gd"])
        self.refuse("--config", "tiny_run.yaml", *setting(run__name="run", data__synthetic__train_images=72), ranks=2,
                    says="data.synthetic.train_images")

    def test_from_a_checkpoint_by_path(self):
        self.train(*setting(checkpoint__every_steps=4, checkpoint__keep=9))
        path = "runs/run/checkpoints/step-00000004"
        shutil.rmtree(self.folder / "runs/run/checkpoints/step-00000016")
        # Into a folder of its own, then back in the run's own folder.
        self.train("--resume", path, name="other")
        self.assertEqual(self.model_hash("other"), self.model_hash("run"))
        before = self.model_hash("run")
        _, events = self.train("--resume", "runs/run/checkpoints/step-00000008")
        self.assertEqual(self.of(events, "start")[-1]["resumed_from"], 8)
        self.assertEqual([step["step"] for step in self.of(events, "step")], list(range(1, STEPS + 1)))
        self.assertEqual(self.model_hash("run"), before)
        self.assertIn("step-00000012.1", self.names("runs/run/checkpoints"))
        self.refuse("--config", "tiny_run.yaml", "--set", "run.name=other", "--resume",
                    "runs/run/checkpoints/step-00000008", says="leave --resume out")
        self.refuse_run("--resume", "nowhere", says=["--resume nowhere", "manifest.json"])
        evaluation = self.succeed("--config", "tiny_run.yaml", "--eval", "runs/run/checkpoints/step-00000016").out
        self.assertIn("top-1", evaluation)

    def test_from_the_folder_of_checkpoints_and_after_the_end(self):
        self.train()
        self.refuse_other("--resume", "runs/run/checkpoints", says="nothing is left to do of 2 epochs; raise run.epochs")
        _, events = self.train("--resume", "runs/run/checkpoints/", *setting(run__epochs=3), name="other")
        self.assertEqual(self.of(events, "start")[-1]["resumed_from"], STEPS)

    def refuse_other(self, *arguments, says):
        self.refuse("--config", "tiny_run.yaml", "--set", "run.name=other", *arguments, says=says)
        self.assertFalse((self.folder / "runs/other").exists())

    def test_a_damaged_checkpoint_is_named(self):
        self.train(*setting(run__max_steps=12, checkpoint__every_steps=4))
        damaged = self.folder / "runs/run/checkpoints/step-00000012/shared.state"
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        result, events = self.train(ranks=None)
        self.assertIn("step-00000012 cannot be used: shared.state is damaged", result.err)
        self.assertEqual(self.of(events, "start")[-1]["resumed_from"], 8)
        self.train(name="whole")
        self.assertEqual(self.model_hash("run"), self.model_hash("whole"))

    def test_damaged_choices_of_convolutions_are_made_anew_with_a_word(self):
        self.train(*setting(run__max_steps=4), name="run")
        file = self.folder / "runs/run/convolutions.txt"
        content = file.read_bytes()
        self.assertTrue(content)
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        for step, damaged in enumerate((content[:len(content) // 2], bytes(flipped), b""), start=5):
            file.write_bytes(damaged)
            result, _ = self.train(*setting(run__max_steps=step), name="run")
            self.assertIn("convolutions.txt is damaged", result.err)
            self.assertEqual(file.read_bytes(), content)
        self.assertEqual(self.train(*setting(run__max_steps=8), name="run")[0].err, "")
        choices = content.split(b"\n", 1)[1]
        if choices:  # none where every convolution is direct; a file of an earlier version has no checksum
            file.write_bytes(choices)
            self.assertEqual(self.train(*setting(run__max_steps=9), name="run")[0].err, "")

    def test_what_has_changed_is_listed(self):
        self.train(*setting(run__max_steps=4), name="run")
        result, _ = self.train(*setting(run__max_steps=5, optimizer__lr__base=0.5), name="run")
        self.assertRegex(result.out, r"exactly, with other settings from here on \(old -> new\):\n +optimizer.lr.base: 0.02 -> 0.5\n"
                                     r" +run.max_steps: 4 -> 5\n")

    def test_killed_before_the_first_checkpoint(self):
        """The same command starts again."""
        process = self.start("--config", "tiny_run.yaml", *self.MANY,
                             *setting(run__name="run", run__eval_every_epochs=0, checkpoint__every_epochs="null"),
                             stdout=subprocess.DEVNULL)
        self.assertTrue(wait_until(lambda: self.has_steps("run")))
        process.kill()
        process.wait()
        result, events = self.train()
        self.assertIn("starting again", result.out)
        self.assertEqual([step["step"] for step in self.of(events, "step")], list(range(1, STEPS + 1)))


if __name__ == "__main__":
    main()
