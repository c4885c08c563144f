"""dcs3gd-train as a user meets it: runs from their beginning to their end. Usage: cli_support.py."""

import json
import os
import pty
import shutil
import subprocess

from train_cli_support import CONTROL, STEPS, STEPS_PER_EPOCH, TrainTest, setting
from cli_support import main
from processes import TIMEOUT_S, wait_until

KEYS = {
    "start": ["event", "version", "command", "config_hash", "hosts", "ranks", "workers", "threads", "isa", "parameters",
              "fresh_share", "all_reduce_bytes", "resumed_from"],
    "step": ["event", "step", "epoch", "loss", "lr", "grad_norm", "lambda", "distance_norm", "staleness_price",
             "staleness_sharpness", "images_per_s", "step_ms", "compute_ms", "all_reduce_ms", "wait_ms", "overlap", "data_wait_ms", "bad_images"],
    "eval": ["event", "step", "epoch", "top1", "top5", "loss", "images"],
    "checkpoint": ["event", "step", "epoch", "path", "wall_s", "stall_s"],
    "end": ["event", "status", "exit_code", "best_top1", "final_top1", "wall_s", "images_per_s",
            "wall_images_per_s"],
}


# Loaded before the C library: the machine has been busy for long, and the program may have FAKE_THREADS more threads,
# beside those of MPI's libraries.
FAKE_MACHINE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
int getloadavg(double* load, int count) {
  for (int i = 0; i < count; ++i) load[i] = 100;
  return count;
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) {
  static int started = 0;
  int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) = dlsym(RTLD_NEXT, "pthread_create");
  const char* most = getenv("FAKE_THREADS");
  Dl_info caller;
  const int counts = most != NULL && dladdr(__builtin_return_address(0), &caller) && strstr(caller.dli_fname, "libstdc++");
  return counts && ++started > atoi(most) ? EAGAIN : real(thread, attributes, body, argument);
}
"""


class Limits(TrainTest):
    """What the machine, its environment and whoever reads the output do to a run."""

    def fake_machine(self, **variables):
        self.write("fake.c", FAKE_MACHINE)
        library = self.folder / "fake.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, self.folder / "fake.c", "-ldl"], check=True)
        return {"LD_PRELOAD": str(library), **variables}

    def test_openmp_that_takes_fewer_threads_on_a_busy_machine(self):
        busy = self.fake_machine(OMP_DYNAMIC="true")
        self.train(*setting(run__threads=2), environment=busy)
        self.succeed("--config", "tiny_run.yaml", *setting(run__threads=2), "--dry-run", environment=busy)

    def test_a_team_that_is_not_to_be_had(self):
        for arguments in ([], ["--dry-run"], ["--eval", "nothing.safetensors"]):
            self.refuse_run(*arguments, *setting(run__threads=2), says="OMP_THREAD_LIMIT (now 1)",
                            environment={"OMP_THREAD_LIMIT": "1"})
        self.train(*setting(run__threads="auto"), environment={"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": ""})

    def test_threads_that_cannot_be_started(self):
        for most, code in ((0, 1), (1, 2)):  # not even the one for communication; none beside it
            self.refuse("--config", "tiny_run.yaml", *setting(run__threads=2), code=code, says="ulimit -u",
                        environment=self.fake_machine(FAKE_THREADS=str(most)))

    def test_limits_of_memory_too_small_for_any_network(self):
        def run(limits, *arguments):
            line = self.command(arguments)
            return subprocess.run(["sh", "-c", f'ulimit {" ".join(limits)} && exec "$@"', "sh", *line], cwd=self.folder,
                                  env=self.environment(None), capture_output=True, encoding="utf-8", check=False,
                                  timeout=TIMEOUT_S)

        for limits in (["-v", "80000"], ["-v", "110000"], ["-v", "150000"], ["-d", "50000"]):
            if run(limits, "--version").returncode != 0:
                print(f"skipped: MPI's libraries cannot be loaded with ulimit {' '.join(limits)}", flush=True)
                continue
            for arguments in ([], ["--dry-run"], ["--eval", "nothing.safetensors"]):
                with self.subTest(limits, arguments=arguments):
                    result = run(limits, "--config", "tiny_run.yaml", *arguments)
                    self.assertEqual((result.returncode, result.stdout), (2, ""), result)
                    self.assertIn(f"ulimit {limits[0]}", result.stderr)

    def test_output_that_nobody_reads(self):
        process = self.start("--config", "tiny_run.yaml", *setting(run__name="run"), stdout=subprocess.PIPE)
        process.stdout.close()
        self.assertEqual(process.wait(timeout=TIMEOUT_S), 0)
        self.assertIn("done", self.read("runs/run/log.txt"))

    def test_closed_streams_are_no_files_of_the_run(self):
        line = self.command(["--config", "tiny_run.yaml", *setting(run__name="run")])
        subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line], cwd=self.folder,
                       env=self.environment(None), check=True, timeout=TIMEOUT_S)
        self.assertLess(len(self.read("runs/run/.lock").splitlines()), 3)
        lines = [line for line in self.read("runs/run/log.txt").splitlines() if "evaluation: top-1" in line]
        self.assertEqual(len(lines), 2)

    def test_a_machine_without_proc(self):
        hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
        if os.geteuid() != 0 or subprocess.run([*hidden, "true"], check=False).returncode != 0:
            self.skipTest("/proc cannot be hidden here")
        line = self.command(["--config", "tiny_run.yaml", *setting(run__name="run")])
        subprocess.run([*hidden, *line], cwd=self.folder, env=self.environment(None), check=True, timeout=TIMEOUT_S,
                       stdout=subprocess.DEVNULL)


class Run(TrainTest):
    def test_files_and_metrics(self):
        result, events = self.train()
        self.assertEqual([name.split(".out")[0] for name in self.names("runs/run") if not name.startswith(".")],
                         ["best.safetensors", "checkpoints", "config.yaml", "convolutions.txt", "events", "first_batch.jpg",
                          "log.txt", "metrics.jsonl", "model.safetensors", "summary.json"])
        for event in events:
            self.assertEqual(list(event), KEYS[event["event"]])
        # A checkpoint has its line when it is there, which may be some steps later.
        self.assertEqual([event["event"] for event in events if event["event"] != "checkpoint"],
                         ["start"] + (["step"] * STEPS_PER_EPOCH + ["eval"]) * 2 + ["end"])
        self.assertEqual([event["step"] for event in self.of(events, "checkpoint")], [8, 16])
        steps = self.of(events, "step")
        self.assertEqual([step["step"] for step in steps], list(range(1, STEPS + 1)))
        self.assertEqual([step["epoch"] for step in steps], [1] * STEPS_PER_EPOCH + [2] * STEPS_PER_EPOCH)
        self.assertTrue(all(step["overlap"] is None for step in steps), "one rank has nothing to overlap")
        self.assertEqual([(e["step"], e["epoch"], e["images"]) for e in self.of(events, "eval")],
                         [(8, 1, 20), (16, 2, 20)])
        start, end = events[0], events[-1]
        self.assertEqual((start["ranks"], start["workers"], start["threads"], start["all_reduce_bytes"],
                          start["resumed_from"]), (1, 1, 1, 0, None))
        self.assertEqual((end["status"], end["exit_code"]), ("done", 0))
        self.assertEqual(json.loads(self.read("runs/run/summary.json")), end)
        self.assertFalse(CONTROL.search(result.out), "control characters in a pipe")
        self.assertEqual(result.err, "")
        # The console and log.txt say the same: the table of the start, progress, evaluations, the end.
        self.assertEqual(self.read("runs/run/log.txt"), result.out)
        for words in ("run folder", "learning rate", "parameters", "evaluation: top-1", "done: 16 steps"):
            self.assertIn(words, result.out)
        self.assertNotIn("overlap", result.out)

    def test_effective_configuration_runs_again_with_the_same_result(self):
        self.train(*setting(optimizer__momentum=0.5))
        shutil.copy(self.folder / "runs/run/config.yaml", self.folder / "again.yaml")
        self.succeed("--config", "again.yaml", "--set", "run.name=again")
        self.assertEqual(self.model_hash("again"), self.model_hash("run"))

    def test_it_learns(self):
        for algorithm in ("ssgd", "dc_s3gd"):
            with self.subTest(algorithm):
                _, events = self.train(*self.easy_data(), *setting(algorithm__name=algorithm), name=algorithm)
                losses = [step["loss"] for step in self.of(events, "step")]
                self.assertLess(sum(losses[-16:]), 0.2 * sum(losses[:16]))
                self.assertGreater(events[-1]["final_top1"], 0.9)  # chance is 0.25

    def test_a_used_folder_is_left_or_set_aside(self):
        self.train()
        before = self.model_hash("run")
        shutil.rmtree(self.folder / "runs/run/checkpoints")
        self.refuse("--config", "tiny_run.yaml", "--set", "run.name=run", says=["runs/run", "--resume never"])
        self.assertEqual((self.names("runs"), self.model_hash("run")), (["run"], before))
        for number in (1, 2):
            result, _ = self.train("--resume", "never")
            self.assertIn(f"runs/run.{number}", result.out)
        self.assertEqual(self.names("runs"), ["run", "run.1", "run.2"])
        self.assertEqual(self.model_hash("run.1"), before)

    def test_two_runs_at_once_in_one_folder(self):
        self.start("--config", "tiny_run.yaml", *setting(run__name="run", run__epochs=1000000),
                   stdout=subprocess.DEVNULL)
        self.assertTrue(wait_until((self.folder / "runs/run/log.txt").exists))
        for mode in ("auto", "never"):
            self.refuse("--config", "tiny_run.yaml", *setting(run__name="run"), "--resume", mode, says="in use by process")

    def test_max_steps_ends_with_an_evaluation(self):
        _, events = self.train(*setting(run__max_steps=11))
        self.assertEqual(self.of(events, "step")[-1]["step"], 11)
        self.assertEqual([e["step"] for e in self.of(events, "eval")], [8, 11])
        _, whole = self.train(name="whole")
        self.assertEqual([s["lr"] for s in self.of(whole, "step")][:11], [s["lr"] for s in self.of(events, "step")],
                         "the schedule's horizon is the number of epochs")

    def test_evaluation_only_at_the_end(self):
        _, events = self.train(*setting(run__eval_every_epochs=0))
        self.assertEqual([e["step"] for e in self.of(events, "eval")], [16])

    def test_metrics_every_steps(self):
        _, events = self.train(*setting(output__metrics_every_steps=5))
        self.assertEqual([s["step"] for s in self.of(events, "step")], [5, 10, 15, 16])

    def test_progress_none(self):
        result, _ = self.train(*setting(output__progress="none"))
        self.assertNotIn("img/s  ", result.out)
        self.assertIn("evaluation: top-1", result.out)

    def test_bar_on_a_terminal(self):
        try:
            ours, theirs = pty.openpty()
        except OSError as error:
            self.skipTest(f"this machine has no pseudo-terminals: {error}")
        process = self.start("--config", "tiny_run.yaml", *setting(run__name="run", run__epochs=30),
                             environment={"TERM": "xterm"}, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
        os.close(ours)
        self.assertEqual(process.wait(), 0, shown)
        self.assertIn(b"\r\x1b[K", shown)
        self.assertRegex(shown.decode(), r"\[[#-]{10,}\] epoch \d+/30 step \d+/240")
        self.assertTrue(shown.endswith(b"\n") or shown.endswith(b"\x1b[K"), "the bar is taken away")
        self.assertFalse(CONTROL.search(self.read("runs/run/log.txt")))


class Determinism(TrainTest):
    def hash_of(self, name, *arguments):
        self.train("--set", f"run.name={name}", *arguments, name=name)
        return self.model_hash(name)

    def check(self, *arguments):
        first = self.hash_of("first", *arguments)
        for threads in (0, 1, 3):
            self.assertEqual(self.hash_of(f"loader{threads}", *arguments, *setting(data__loader__threads=threads)),
                             first)
        self.assertNotEqual(self.hash_of("seed", *arguments, *setting(run__seed=2)), first)

    def test_lenet5(self):
        for algorithm in ("ssgd", "dc_s3gd"):
            with self.subTest(algorithm):
                self.check("--resume", "never", *setting(algorithm__name=algorithm))

    def test_resnet20(self):
        for algorithm in ("ssgd", "dc_s3gd"):
            with self.subTest(algorithm):
                self.check("--resume", "never",
                           *setting(algorithm__name=algorithm, model__name="resnet20", data__image_size=8,
                                    data__augment__random_crop_padding=1, data__augment__horizontal_flip="true",
                                    run__max_steps=6))


class Ends(TrainTest):
    def test_divergence(self):
        for algorithm in ("ssgd", "dc_s3gd"):
            with self.subTest(algorithm):
                self.refuse("--config", "tiny_run.yaml",
                            *setting(run__name=algorithm, algorithm__name=algorithm, optimizer__lr__base=1e6),
                            code=3, says=["step", "optimizer.lr.base"])
                self.assertEqual([name for name in self.names(f"runs/{algorithm}") if name.endswith("safetensors")
                                  or "tmp" in name], [])
                end = self.read_jsonl(f"runs/{algorithm}/metrics.jsonl")[-1]
                self.assertEqual((end["event"], end["status"], end["exit_code"]), ("end", "diverged", 3))
                self.assertEqual(json.loads(self.read(f"runs/{algorithm}/summary.json")), end)
                self.assertIn("error: step", self.read(f"runs/{algorithm}/log.txt"))

    def test_loss_limit(self):
        self.refuse("--config", "tiny_run.yaml", *setting(run__name="run", run__loss_limit=0.01), code=3,
                    says=["step 1", "run.loss_limit"])

    def test_output_folder_that_cannot_be(self):
        self.write("file", "no folder")
        self.refuse_run(*setting(run__output_dir="file"), says=["file/tiny_run", "run.output_dir"])
        self.refuse_run(*setting(run__output_dir="/proc/nowhere"), says=["/proc/nowhere/tiny_run", "run.output_dir"])

    def test_full_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True,
                               text=True)
        if mount.returncode != 0:
            self.skipTest(f"needs a small file system: {mount.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        self.refuse("--config", "tiny_run.yaml", *setting(run__output_dir="disk", run__name="run"), code=1,
                    says=["warning: cannot write disk/run/best.safetensors: No space left on device", "training goes on",
                          "step-00000016.tmp"])
        self.assertEqual([name for name in self.names("disk/run") if "safetensors" in name], [])
        self.assertEqual(self.names("disk/run/checkpoints"), [])
        self.assertEqual(self.read_jsonl("disk/run/metrics.jsonl")[-1]["status"], "failed")


class OlderProcessors(TrainTest):
    def test_instruction_sets(self):
        for name in ("SSE41", "AVX2"):
            with self.subTest(name):
                environment = {"ONEDNN_MAX_CPU_ISA": name}
                _, events = self.train(name=name, environment=environment)
                self.assertEqual(events[-1]["status"], "done")
                self.refuse_run(*setting(model__precision="bf16", run__name=f"bf16-{name}"), environment=environment,
                                says="bf16 needs a processor with AVX-512 BF16")


if __name__ == "__main__":
    main()
