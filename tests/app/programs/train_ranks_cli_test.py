"""dcs3gd-train as a user meets it: several ranks under mpirun. Usage: cli_support.py."""

import os
import shutil
import signal
import struct
import subprocess
import threading
import time

from train_cli_support import CONTROL, TrainTest, setting
from cli_support import main
from processes import TIMEOUT_S, line_of_each_rank, mpirun, processes_with, wait_until


class Folders(TrainTest):
    def test_a_run_folder_that_a_rank_does_not_share_is_refused_at_the_start(self):
        for folder in ("a", "b"):
            (self.folder / folder).mkdir()
        for more in ([], ["--dry-run"]):
            lines = [["env", "-C", self.folder / folder, self.program, "--config", self.folder / "tiny_run.yaml", *more]
                     for folder in ("a", "b")]  # runs/ is another folder for each
            process = subprocess.run([*mpirun(self.mpirun, 2), *line_of_each_rank(*lines)], env=self.environment(None),
                                     capture_output=True, encoding="utf-8", timeout=300, check=False)
            self.assertEqual(process.returncode, 2, process.stderr)
            self.assertIn("rank 1 on ", process.stderr)
            self.assertIn("run.output_dir", process.stderr)
            self.assertEqual((self.names("a"), self.names("b")), ([], []))


class Ranks(TrainTest):
    def test_algorithms(self):
        for ranks, algorithm, options in ((2, "dc_s3gd", {}), (3, "dc_s3gd", {"comm__wire": "bf16"}), (2, "s3gd", {}),
                                          (3, "ssgd", {}), (2, "ssgd", {"comm__wire": "bf16"}),
                                          (3, "ssgd", {"comm__wire": "int4", "comm__algorithm": "auto"}),
                                          (2, "dc_s3gd", {"comm__algorithm": "mpi"})):
            with self.subTest(f"{algorithm} on {ranks} ranks", **options):
                shutil.rmtree(self.folder / "runs", ignore_errors=True)
                settings = setting(algorithm__name=algorithm, algorithm__batch_per_worker=4, **options)
                result, events = self.train(*settings, ranks=ranks)
                self.assertEqual(self.names("runs"), ["run"])
                logs = [name for name in self.names("runs/run") if name.startswith("log")]
                self.assertEqual(logs, ["log.txt"], "the others have nothing to say")
                start, end = events[0], events[-1]
                self.assertEqual((start["ranks"], start["workers"], len(start["hosts"])), (ranks, ranks, ranks))
                together, in_all = {"bf16": (1, 2), "int4": (32, 18)}.get(options.get("comm__wire"), (1, 4))
                self.assertEqual(start["all_reduce_bytes"], -(-start["parameters"] // together) * in_all)
                self.assertEqual(end["status"], "done")
                steps = self.of(events, "step")
                self.assertEqual([s["step"] for s in steps], list(range(1, 2 * (64 // (4 * ranks)) + 1)))
                self.assertEqual(steps[-1]["lambda"] > 0, algorithm == "dc_s3gd")
                self.assertTrue(all(0 <= s["overlap"] <= 1 for s in steps if s["overlap"] is not None))
                self.assertFalse(CONTROL.search(result.out), "mpirun's output is a pipe")

    def test_mistakes_are_told_once(self):
        for arguments, words in ((setting(run__epoch=1), "Did you mean run.epochs?"),
                                 (self.CIFAR, "DCS3GD_DATA"),
                                 (setting(model__init="missing.safetensors"), "missing.safetensors"),
                                 (setting(run__output_dir="/proc/nowhere"), "run.output_dir")):
            with self.subTest(words):
                result = self.refuse_run(*arguments, ranks=3, says=words)
                self.assertEqual(result.err.count("error:"), 1, result)

    def test_a_rank_with_another_command_line(self):
        for odd in (["--dry-run"], ["--resume", "never"], ["--print-config"], ["--eval"]):
            with self.subTest(odd):
                line = self.command(["--config", "tiny_run.yaml"])
                result = subprocess.run([*mpirun(self.mpirun, 2), *line_of_each_rank(line, [*line, *odd])], cwd=self.folder,
                                        env=self.environment(None), capture_output=True, text=True, timeout=TIMEOUT_S,
                                        check=False)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn("another version, command line or configuration", result.stderr)
                self.assertIn(odd[0], result.stderr)

    def test_divergence(self):
        result = self.refuse("--config", "tiny_run.yaml",
                             *setting(algorithm__name="dc_s3gd", run__name="run", optimizer__lr__base=1e6), ranks=3,
                             code=3, says="optimizer.lr.base")
        self.assertEqual(result.err.count("NaN or Inf"), 1, result)
        self.assertEqual(self.read_jsonl("runs/run/metrics.jsonl")[-1]["status"], "diverged")
        self.assertFalse([name for name in self.names("runs/run") if "safetensors" in name])

    def test_a_killed_rank_ends_the_job(self):
        marker = f"marker{os.getpid()}"
        process = self.start("--config", "tiny_run.yaml",
                             *setting(algorithm__name="dc_s3gd", run__name=marker, run__epochs=1000000), ranks=3,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        heard = []
        listener = threading.Thread(target=lambda: heard.append(process.stdout.read()))
        listener.start()
        self.assertTrue(wait_until((self.folder / f"runs/{marker}/best.safetensors").exists))
        ranks = [pid for pid in processes_with(marker) if pid != process.pid]
        self.assertEqual(len(ranks), 3)
        start = time.monotonic()
        os.kill(ranks[1], signal.SIGKILL)
        self.assertNotEqual(process.wait(timeout=10), 0)
        self.assertTrue(wait_until(lambda: not processes_with(marker), 10 - (time.monotonic() - start)))
        listener.join()
        self.assertRegex(heard[0], r"(?i)signal 9|killed")

    def test_workers_share_a_rank(self):
        """Two workers on one rank or on two: the same trajectory but for the order of the sums."""
        workers = setting(algorithm__name="dc_s3gd", algorithm__batch_per_worker=4, run__max_steps=8)
        self.train(*workers, *setting(algorithm__workers_per_rank=2), name="one_rank")
        self.train(*workers, name="two_ranks", ranks=2)
        one, two = (self.floats(f"runs/{name}/model.safetensors") for name in ("one_rank", "two_ranks"))
        distance = sum((a - b) ** 2 for a, b in zip(one, two)) ** 0.5
        self.assertLess(distance, 1e-4 * sum(a * a for a in one) ** 0.5)

    def floats(self, path):
        content = (self.folder / path).read_bytes()
        begin = 8 + struct.unpack("<Q", content[:8])[0]
        return struct.unpack(f"<{(len(content) - begin) // 4}f", content[begin:])


if __name__ == "__main__":
    main()
