"""dcs3gd-train as a user meets it: the real program in temporary folders. Usage: cli_support.py."""

import csv
import gzip
import hashlib
import json
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import unittest

import event_file
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
from cli_support import CliTest, main, write_photos
from processes import TIMEOUT_S, processes_with, wait_until

# A run of a tenth of a second.
TINY = """\
run: {epochs: 2}
model: {name: lenet5, classes: 2}
data: {format: synthetic, image_size: 16, channels: 1, synthetic: {train_images: 64, eval_images: 20}}
algorithm: {name: ssgd, batch_per_worker: 8}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 0}}
"""
STEPS_PER_EPOCH = 8
STEPS = 16

KEYS = {
    "start": ["event", "version", "command", "config_hash", "hosts", "ranks", "workers", "threads", "isa", "parameters",
              "all_reduce_bytes", "resumed_from"],
    "step": ["event", "step", "epoch", "loss", "lr", "grad_norm", "lambda", "distance_norm", "images_per_s", "step_ms",
             "compute_ms", "all_reduce_ms", "wait_ms", "overlap", "data_wait_ms", "bad_images"],
    "eval": ["event", "step", "epoch", "top1", "top5", "loss", "images"],
    "checkpoint": ["event", "step", "epoch", "path", "wall_s", "stall_s"],
    "end": ["event", "status", "exit_code", "best_top1", "final_top1", "wall_s", "images_per_s"],
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def setting(**keys):
    """run__max_steps=3 as --set run.max_steps=3."""
    arguments = []
    for key, value in keys.items():
        arguments += ["--set", f"{key.replace('__', '.')}={value}"]
    return arguments


def kill_if_alive(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class TrainTest(CliTest):
    def setUp(self):
        super().setUp()
        self.write("tiny_run.yaml", TINY)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def train(self, *arguments, name="run", **options):
        result = self.succeed("--config", "tiny_run.yaml", "--set", f"run.name={name}", *arguments, **options)
        return result, self.read_jsonl(f"runs/{name}/metrics.jsonl")

    def refuse_run(self, *arguments, says, **options):
        """Refused, and nothing is left behind."""
        before = self.names()
        result = self.refuse("--config", "tiny_run.yaml", *arguments, says=says, **options)
        self.assertEqual(self.names(), before)
        return result

    def write_idx(self, part, images, labels, size, magic=2051):
        header = struct.pack(">4i", magic, len(labels), size, size)
        self.write(f"i/{part}-images-idx3-ubyte", header + images)
        self.write(f"i/{part}-labels-idx1-ubyte.gz",
                   gzip.compress(struct.pack(">2i", 2049, len(labels)) + bytes(labels)))

    def easy_data(self):
        """The settings of a run that learns which quarter of a noisy image is bright."""
        size, random_numbers = 12, random.Random(1)

        def image(label):
            return bytes(min(255, random_numbers.randrange(128) + 120 * (2 * (y // 6) + x // 6 == label))
                         for y in range(size) for x in range(size))

        for part, count in (("train", 256), ("t10k", 64)):
            labels = [number % 4 for number in range(count)]
            self.write_idx(part, b"".join(map(image, labels)), labels, size)
        return setting(data__format="idx", data__train="i", data__eval="i", data__image_size=size, model__classes=4,
                       run__epochs=6)

    def model_hash(self, name):
        return hashlib.sha256((self.folder / f"runs/{name}/model.safetensors").read_bytes()).hexdigest()

    def of(self, events, kind):
        return [event for event in events if event["event"] == kind]


class Usage(TrainTest):
    def test_help_and_version(self):
        text = self.succeed("--help").out
        for flag in ("--config", "--set", "--resume", "--eval", "--predictions", "--dry-run", "--print-config",
                     "--version"):
            self.assertIn(flag, text)
        self.assertRegex(self.succeed("--version").out, r"^dcs3gd-train \d+\.\d+\.\d+\n$")

    def test_wrong_usage(self):
        self.refuse(says=["--config", "--help"])
        self.refuse("--confg", "x.yaml", says="Did you mean --config?")
        self.refuse("tiny_run.yaml", says="Did you mean --config tiny_run.yaml?")
        self.refuse("--config", "tiny_run.yaml", "--eval", "--dry-run", says="exclude each other")
        self.assertEqual(self.names(), ["tiny_run.yaml"])

    def test_missing_file_says_where_it_looked(self):
        self.refuse("--config", "nowhere.yaml",
                    says=["nowhere.yaml: no such file", "Looked for", "configs/nowhere.yaml"])

    def test_configurations_of_the_program_are_found_by_name(self):
        self.assertIn("resnet20", self.succeed("--config", "tiny.yaml", "--print-config").out)

    def test_all_mistakes_are_reported_at_once(self):
        self.write("wrong.yaml", "run: {epohcs: 3}\nmodel: {name: resnet21}\nalgorithm: {lambda0: two}\n")
        result = self.refuse("--config", "wrong.yaml", "--set", "optimizer.momentun=0",
                             says=["wrong.yaml:1:", "run.epohcs", "Did you mean", "wrong.yaml:2:", "resnet21",
                                   "wrong.yaml:3:", "algorithm.lambda0", "--set optimizer.momentun=0"])
        self.assertEqual(len(result.err.splitlines()), 4)
        self.assertEqual(self.names(), ["tiny_run.yaml", "wrong.yaml"])

    def test_printed_configuration_is_a_configuration(self):
        printed = self.succeed("--config", "tiny_run.yaml", *setting(run__epochs=3, optimizer__lr__base=0.25),
                               "--print-config").out
        self.assertRegex(printed, r"epochs: 3\b")
        self.assertRegex(printed, r"base: 0\.25\b")
        self.write("printed.yaml", printed)
        again = self.succeed("--config", "printed.yaml", "--print-config").out
        self.assertEqual(again, printed)
        self.assertEqual(self.names(), ["printed.yaml", "tiny_run.yaml"])


class DryRun(TrainTest):
    def parameters(self, model):
        out = self.succeed("--config", "tiny_run.yaml", "--dry-run",
                           *setting(model__name=model, model__classes=1000, data__image_size=64, data__channels=3,
                                    algorithm__batch_per_worker=2)).out
        self.assertRegex(out, r"(?m)^memory .* MB per rank")
        self.assertRegex(out, r"(?m)^step 2 on random images: loss \d")
        return re.findall(r"(?m)^parameters: (\d+)$", out)

    def test_parameters_are_those_of_torchvision(self):
        self.assertEqual(self.parameters("resnet18"), ["11689512"])
        self.assertEqual(self.parameters("resnet50"), ["25557032"])
        self.assertEqual(self.names(), ["tiny_run.yaml"])

    def test_what_does_not_fit_is_a_warning(self):
        result = self.succeed("--config", "tiny_run.yaml", "--dry-run",
                              *setting(model__name="resnet20", checkpoint__keep=1000000, run__time_limit_minutes=1e-7))
        self.assertIn("lower checkpoint.keep", result.err)
        self.assertIn("run.time_limit_minutes", result.err)

    def test_memory_is_that_of_a_run(self):
        """Within 5 % of what the system has seen, where the model is what counts."""
        run = ["--config", "tiny_run.yaml", *setting(model__name="resnet20", data__image_size=32, data__channels=3,
               algorithm__batch_per_worker=64, algorithm__name="dc_s3gd", data__synthetic__train_images=128,
               run__epochs=1)]
        told = float(re.search(r"(?m)^memory +(\S+) MB per rank", self.succeed(*run, "--dry-run").out).group(1))
        process = self.start(*run, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        self.assertEqual(status, 0)
        self.assertAlmostEqual(told, usage.ru_maxrss * 1024 / 1e6, delta=0.05 * told)

    def test_on_two_ranks(self):
        out = self.succeed("--config", "tiny_run.yaml", "--dry-run", *setting(algorithm__name="dc_s3gd"), ranks=2).out
        self.assertEqual(out.count("parameters: "), 1)
        self.assertRegex(out, r"(?m)^all-reduce .*ring, fp32")
        self.assertRegex(out, r"(?m)^memory needed .* GB free on \S+ \(2 ranks\)$")
        self.assertRegex(out, r"(?m)^all-reduce time +\d+\.\d ms for \d+\.\d MB; a step computes for")
        self.assertRegex(out, r"(?m)^disk needed .* free at runs \(checkpoints: 4 x")
        self.assertNotIn("time limit", out)
        self.assertEqual(self.names(), ["tiny_run.yaml"])


class Run(TrainTest):
    def test_files_and_metrics(self):
        result, events = self.train()
        self.assertEqual([name.split(".out")[0] for name in self.names("runs/run") if not name.startswith(".")],
                         ["best.safetensors", "checkpoints", "config.yaml", "convolutions.txt", "events", "log.txt",
                          "metrics.jsonl", "model.safetensors", "summary.json"])
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


class Weights(TrainTest):
    def evaluation(self, text):
        match = re.search(r"top-1 (\S+) %  top-5 (\S+) %  loss (\S+)  \((\d+) images\)", text)
        self.assertTrue(match, text)
        return match.groups()

    def test_evaluation_of_saved_weights_is_that_of_the_run(self):
        for model in ("lenet5", "resnet20"):
            with self.subTest(model):
                result, _ = self.train(*setting(model__name=model, run__max_steps=10), name=model)
                final = self.evaluation(result.out.splitlines()[-2])
                arguments = ["--config", "tiny_run.yaml", *setting(model__name=model, run__name=model), "--eval"]
                self.assertEqual(self.evaluation(self.succeed(*arguments).out), final)
                shutil.copy(self.folder / f"runs/{model}/model.safetensors", self.folder / "moved.safetensors")
                self.assertEqual(self.evaluation(self.succeed(*arguments, "moved.safetensors").out), final)
                self.assertEqual(self.evaluation(self.succeed(*arguments, "moved.safetensors", ranks=3).out), final)

    def test_a_network_of_ones_own_trains_continues_and_is_evaluated_from_its_card_alone(self):
        network = "layers: [{convolution: {name: c, channels: 4, kernel: 3}}, {relu: }, {linear: {name: f, features: $classes}}]"
        self.write("net.yaml", network)
        self.write("photos.yaml", TINY.replace("{name: lenet5, classes: 2}", "{name: mine, file: net.yaml, classes: 2}"))
        self.succeed("--config", "photos.yaml", *setting(run__name="run", run__max_steps=8))
        # Another size, another network: the card of the model holds.
        other = setting(model__name="resnet20", data__image_size=16, data__channels=1)
        out = self.succeed("--config", "tiny_run.yaml", *other, "--eval", "runs/run/model.safetensors").out
        line = [event for event in self.read_jsonl("runs/run/metrics.jsonl") if event["event"] == "eval"][-1]
        self.assertIn(f"top-1 {100 * line['top1']:.2f} %", out)
        self.assertIn("(20 images)", out)
        (self.folder / "net.yaml").unlink()
        self.assertIn(f"top-1 {100 * line['top1']:.2f} %",
                      self.succeed("--config", "photos.yaml", "--eval", "runs/run/model.safetensors").out)

        self.write("net.yaml", network.replace("channels: 4", "channels: 5"))
        self.refuse("--config", "photos.yaml", *setting(run__name="run"),
                    says=["step-00000008 cannot be continued with another network", "net.yaml"])
        self.write("net.yaml", network)
        self.succeed("--config", "photos.yaml", *setting(run__name="run"))
        self.write("net.yaml", network.replace("relu", "rleu"))
        self.refuse("--config", "photos.yaml", *setting(run__name="new"), says=["net.yaml:1:", "Did you mean relu?"])
        self.refuse("--config", "photos.yaml", *setting(model__file="nowhere.yaml"), says="nowhere.yaml")
        self.assertEqual(self.names("runs"), ["run"])

    def test_evaluation_without_a_run(self):
        self.refuse_run("--eval", says="runs/tiny_run/model.safetensors")

    def test_training_goes_on_from_saved_weights(self):
        training = self.easy_data()
        _, first = self.train(*training, name="first")
        _, second = self.train(*training, *setting(model__init="runs/first/model.safetensors", run__max_steps=4),
                               name="second")
        beginning = [sum(step["loss"] for step in self.of(events, "step")[:4]) for events in (first, second)]
        self.assertLess(beginning[1], 0.2 * beginning[0])

    def test_weights_of_another_model(self):
        self.train(*setting(run__max_steps=1))
        weights = setting(model__init="runs/run/model.safetensors", run__name="other")
        self.refuse_run(*weights, *setting(model__name="resnet20"), says=["model.safetensors", "6x1x5x5", "layer1.0"])
        self.refuse_run(*weights, *setting(model__classes=3), says=["fc3.weight", "2x84", "3x84"])
        self.train(*setting(model__init="runs/run/model.safetensors", model__classes=3, model__init_skip="[fc3]",
                            run__max_steps=1), name="skipped")
        self.write("garbage.safetensors", b"\xff" * 100)
        self.refuse_run(*setting(model__init="garbage.safetensors", run__name="other"), says="garbage.safetensors")
        self.refuse_run(*setting(model__init="missing.safetensors", run__name="other"), says="missing.safetensors")


class Predictions(TrainTest):
    FIELDS = ["index", "file", "label", "label_name", "class1", "name1", "probability1", "class2", "name2", "probability2",
              "class3", "name3", "probability3"]

    def predict(self, *arguments, file="p.csv", **options):
        out = self.succeed("--config", "tiny_run.yaml", *arguments, "--eval", "--predictions", file, **options).out
        with open(self.folder / file, newline="", encoding="utf-8") as lines:
            return out, list(csv.DictReader(lines))

    def photos(self):
        write_photos(self.folder / "photos", 8, classes=("cat, wild", 'the "dog"', "emu"))
        return setting(data__format="image_folder", data__train="photos", data__eval="photos", data__image_size=32,
                       model__classes=3)

    def test_every_image_once_with_names(self):
        photos = self.photos()
        self.train(*photos, name="run")
        out, rows = self.predict(*photos, *setting(run__name="run"))
        self.assertEqual(list(rows[0]), self.FIELDS)
        self.assertEqual([int(row["index"]) for row in rows], list(range(12)))
        names = ["cat, wild", "emu", 'the "dog"']
        for row in rows:
            self.assertEqual(row["label_name"], names[int(row["label"])])
            self.assertEqual(pathlib.Path(row["file"]).parent.name, row["label_name"])
            probabilities = [float(row[f"probability{place}"]) for place in (1, 2, 3)]
            self.assertEqual(probabilities, sorted(probabilities, reverse=True))
            self.assertAlmostEqual(sum(probabilities), 1, places=4)
            self.assertEqual({row[f"name{place}"] for place in (1, 2, 3)}, set(names))
            self.assertTrue(all(row[f"name{place}"] == names[int(row[f"class{place}"])] for place in (1, 2, 3)))
        top1 = 100 * sum(row["class1"] == row["label"] for row in rows) / len(rows)
        self.assertIn(f"top-1 {top1:.2f} %", out)
        before = self.read("p.csv")
        for ranks in (2, 3):
            self.predict(*photos, *setting(run__name="run"), file="q.csv", ranks=ranks)
            self.assertEqual(self.read("q.csv"), before)
        self.assertNotIn("p.csv.tmp", self.names())

    def test_images_without_files_or_names(self):
        self.train()
        _, rows = self.predict(*setting(run__name="run"))
        self.assertEqual(list(rows[0]), self.FIELDS[:10])
        self.assertEqual([int(row["index"]) for row in rows], list(range(20)))
        self.assertEqual({(row["file"], row["label_name"], row["name1"]) for row in rows}, {("", "", "")})

    def test_images_that_cannot_be_read_are_left_out(self):
        photos = [*self.photos(), *setting(data__loader__on_bad_image="skip", run__name="run")]
        self.train(*photos)
        next((self.folder / "photos/val/emu").iterdir()).write_bytes(b"no image")
        _, rows = self.predict(*photos, ranks=2)
        self.assertEqual(len(rows), 11)
        self.assertEqual(len({row["index"] for row in rows}), 11)
        self.assertTrue(all(pathlib.Path(row["file"]).parent.name == row["label_name"] for row in rows))

    def test_refused_before_anything_starts(self):
        self.train()
        self.refuse("--config", "tiny_run.yaml", *setting(run__name="run"), "--eval", "--predictions", "nowhere/p.csv",
                    says=["--predictions", "nowhere/p.csv"])
        self.refuse_run("--predictions", "p.csv", says="needs --eval")


class TensorBoard(TrainTest):
    def events_of(self, name):
        file, = (self.folder / f"runs/{name}").glob("events.out.tfevents.*")
        return list(event_file.events(file.read_bytes()))

    def test_the_event_file_says_what_the_metrics_say(self):
        _, metrics = self.train(*setting(algorithm__name="dc_s3gd", algorithm__batch_per_worker=4), ranks=2)
        first, *events = self.events_of("run")
        self.assertEqual((first["file_version"], "step" in first), ("brain.Event:2", False))
        lines = [line for line in metrics if line["event"] in ("step", "eval")]
        self.assertEqual([event["step"] for event in events], [line["step"] for line in lines])
        names = {"lr": "learning_rate"}
        for event, line in zip(events, lines):
            self.assertLess(abs(event["wall_time"] - time.time()), 600)
            numbers = {names.get(key, key): value for key, value in line.items()
                       if key not in ("event", "step", "epoch", "images") and value is not None}
            self.assertEqual({tag.split("/")[1]: number for tag, number in event["scalars"].items()},
                             {key: struct.unpack("<f", struct.pack("<f", value))[0] for key, value in numbers.items()})
            self.assertEqual("eval/top1" in event["scalars"], line["event"] == "eval")
        self.assertEqual(len(events), 18)

    def test_numbers_that_are_null_are_left_out(self):
        self.train()
        steps = [event for event in self.events_of("run") if "train/loss" in event.get("scalars", {})]
        self.assertEqual(len(steps), STEPS)
        self.assertFalse(any("speed/overlap" in event["scalars"] for event in steps), "one rank has none")


class Trace(TrainTest):
    def trace_of(self, ranks):
        self.train(*setting(algorithm__name="dc_s3gd", algorithm__batch_per_worker=4, output__trace="true",
                            data__loader__threads=1), ranks=ranks)
        events = json.loads(self.read("runs/run/trace.json"))["traceEvents"]
        self.assertTrue(all(event["ph"] in "MX" for event in events))
        rows = {(event["pid"], event["tid"]): event["args"]["name"] for event in events
                if event["name"] == "thread_name"}
        spans = {}
        for event in events:
            if event["ph"] == "X":
                spans.setdefault((event["pid"], rows[event["pid"], event["tid"]], event["name"]), []).append(event)
        return events, spans

    def test_lanes_of_all_ranks(self):
        events, spans = self.trace_of(ranks=2)
        for rank in (0, 1):
            for name in ("gradient", "wait", "update"):
                self.assertEqual(len(spans[rank, "compute", name]), 16)
            # One a step, and the running statistics before each of two evaluations.
            self.assertEqual(len(spans[rank, "communication", "all-reduce"]), 18)
            # Training batches; those of the evaluations are made in threads that have rows of their own.
            self.assertGreaterEqual(len(spans[rank, "loader", "batch"]), 16)
            for name in ("gradient", "wait", "update"):
                times = [(span["ts"], span["ts"] + span["dur"]) for span in spans[rank, "compute", name]]
                self.assertTrue(all(end <= begin for (_, end), (begin, _) in zip(times, times[1:])))
        self.assertEqual({event["args"]["name"].split(" on ")[0] for event in events
                          if event["name"] == "process_name"}, {"rank 0", "rank 1"})
        begins, ends = zip(*((event["ts"], event["ts"] + event["dur"]) for event in events if event["ph"] == "X"))
        end = self.read_jsonl("runs/run/metrics.jsonl")[-1]
        self.assertLess(max(ends) - min(begins), 1e6 * end["wall_s"] + 2e6, "the ranks' clocks agree")

    def test_the_all_reduce_lies_between_its_update_and_the_next_wait(self):
        _, spans = self.trace_of(ranks=2)
        updates, waits = spans[0, "compute", "update"], spans[0, "compute", "wait"]
        all_reduces = spans[0, "communication", "all-reduce"]
        for update, all_reduce, wait in zip(updates[:7], all_reduces, waits[1:]):
            self.assertLess(update["ts"], all_reduce["ts"])
            self.assertLess(all_reduce["ts"] + all_reduce["dur"], wait["ts"] + wait["dur"])

    def test_one_rank_and_no_trace(self):
        _, spans = self.trace_of(ranks=None)
        self.assertIn((0, "compute", "gradient"), spans)
        self.train(name="without")
        self.assertNotIn("trace.json", self.names("runs/without"))


class Data(TrainTest):
    CIFAR = setting(data__format="cifar10", data__train="c", data__eval="c", data__image_size=32, data__channels=3,
                    model__classes=10)
    IDX = setting(data__format="idx", data__train="i", data__eval="i", data__image_size=28, model__classes=10)

    def write_cifar(self, records=8, label=1):
        record = bytes([label]) + bytes(range(256)) * 12
        for name in [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]:
            self.write(f"c/{name}", record * records)

    def write_black(self, part, label=3, **options):
        self.write_idx(part, bytes(16 * 28 * 28), [label] * 16, 28, **options)

    def test_real_formats_train(self):
        self.write_cifar()
        self.train(*self.CIFAR, name="cifar")
        self.write_black("train")
        self.write_black("t10k")
        self.train(*self.IDX, name="idx")
        os.rename(self.folder / "i", self.folder / "elsewhere")
        os.mkdir(self.folder / "data")
        os.rename(self.folder / "elsewhere", self.folder / "data/i")
        self.train(*self.IDX, name="with_variable", environment={"DCS3GD_DATA": str(self.folder / "data")})

    def test_missing(self):
        self.refuse_run(*self.CIFAR, says=["'c'", "DCS3GD_DATA"])
        self.refuse_run(*self.CIFAR, environment={"DCS3GD_DATA": "/nowhere"}, says=["/nowhere/c", "DCS3GD_DATA"])

    def test_truncated_cifar(self):
        self.write_cifar()
        self.write("c/data_batch_3.bin", b"\x01" * 5000)
        self.refuse_run(*self.CIFAR, says=["data_batch_3.bin", "5000 bytes"])

    def test_label_out_of_range(self):
        self.write_cifar(label=10)
        self.refuse_run(*self.CIFAR, says=["data_batch_1.bin", "label", "10"])
        self.write_black("train", label=9)
        self.write_black("t10k", label=10)
        self.refuse_run(*self.IDX, says=["t10k-labels", "label", "10"])

    def test_wrong_magic(self):
        self.write_black("train", magic=2052)
        self.write_black("t10k")
        self.refuse_run(*self.IDX, says=["train-images-idx3-ubyte", "2052"])

    def test_sizes_that_do_not_fit(self):
        self.write_cifar()
        self.refuse_run(*self.CIFAR, *setting(data__image_size=24), says="data.image_size")
        self.refuse_run(*self.CIFAR, *setting(data__channels=1), says="data.channels")
        self.refuse_run(*setting(data__image_size=4), says=["layer", "data.image_size"])

    def test_less_than_a_global_batch(self):
        self.refuse_run(*setting(algorithm__batch_per_worker=65), says=["64 images", "algorithm.batch_per_worker"])
        self.refuse_run(*setting(algorithm__batch_per_worker=40), ranks=2, says=["2 workers", "64 images"])


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

    def test_a_finished_run_says_so_without_its_data(self):
        data = self.easy_data()
        self.train(*data, *setting(run__epochs=1))
        shutil.rmtree(self.folder / "i")
        for ranks in (None, 2):
            result, _ = self.train(*data, *setting(run__epochs=1), ranks=ranks)
            self.assertEqual(result.out.count("is finished"), 1)

    def test_signals_stop_it_behind_a_checkpoint(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            with self.subTest(number):
                name = f"run{number}"
                process = self.start_long(name, *setting(algorithm__name="dc_s3gd"))
                process.send_signal(number)
                code, end = self.end_of(process, name)
                self.assertEqual((code, end["status"], end["exit_code"]), (75, "stopped", 75))
                self.check_continues(name, *setting(algorithm__name="dc_s3gd"))

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

    def stuck(self, name):
        """Rank 0 of a run whose rank 1 stands still."""
        process = self.start("--config", "tiny_run.yaml", *self.MANY,
                             *setting(run__name=name, run__eval_every_epochs=0, checkpoint__every_epochs="null"),
                             ranks=2, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
        self.assertTrue(wait_until(lambda: self.has_steps(name)))
        waiting, stopped = self.ranks_of(process, name)
        os.kill(stopped, signal.SIGSTOP)
        self.addCleanup(kill_if_alive, stopped)
        time.sleep(0.5)
        os.kill(waiting, signal.SIGINT)
        time.sleep(1)
        self.assertIn(waiting, self.ranks_of(process, name), "it waits for the end of its step")
        return process, waiting

    def test_a_second_interrupt_ends_it_at_once(self):
        process, waiting = self.stuck("run")
        os.kill(waiting, signal.SIGINT)
        self.assertTrue(wait_until(lambda: waiting not in self.ranks_of(process, "run"), 2))

    def test_a_step_that_never_ends_does_not_keep_it(self):
        process, waiting = self.stuck("run")
        self.assertTrue(wait_until(lambda: waiting not in self.ranks_of(process, "run"), 15))
        self.assertNotEqual(process.wait(timeout=15), 0)
        self.assertIn("the step does not end", process.stderr.read())

    def test_time_limit(self):
        process = self.start("--config", "tiny_run.yaml", *self.MANY, *setting(run__name="run",
                             run__time_limit_minutes=0.02), ranks=2, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        code, end = self.end_of(process, "run")
        self.assertEqual((code, end["status"]), (75, "stopped"))
        self.check_continues("run", ranks=2)

    def test_the_end_of_a_slurm_job(self):
        result = self.run_program("--config", "tiny_run.yaml", *self.MANY, *setting(run__name="run"),
                                  environment={"SLURM_JOB_END_TIME": str(int(time.time()) + 91)})
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


class Ranks(TrainTest):
    def test_algorithms(self):
        for ranks, algorithm, options in ((2, "dc_s3gd", {}), (3, "dc_s3gd", {"comm__wire": "bf16"}), (2, "s3gd", {}),
                                          (3, "ssgd", {}), (2, "ssgd", {"comm__wire": "bf16"}),
                                          (2, "dc_s3gd", {"comm__algorithm": "mpi"})):
            with self.subTest(f"{algorithm} on {ranks} ranks", **options):
                shutil.rmtree(self.folder / "runs", ignore_errors=True)
                settings = setting(algorithm__name=algorithm, algorithm__batch_per_worker=4, **options)
                result, events = self.train(*settings, ranks=ranks)
                self.assertEqual(self.names("runs"), ["run"])
                for rank in range(1, ranks):
                    self.assertIn(f"log.rank{rank:04}.txt", self.names("runs/run"))
                start, end = events[0], events[-1]
                self.assertEqual((start["ranks"], start["workers"], len(start["hosts"])), (ranks, ranks, ranks))
                element = 2 if options.get("comm__wire") == "bf16" else 4
                self.assertEqual(start["all_reduce_bytes"], element * start["parameters"])
                self.assertEqual(end["status"], "done")
                steps = self.of(events, "step")
                self.assertEqual([s["step"] for s in steps], list(range(1, 2 * (64 // (4 * ranks)) + 1)))
                self.assertEqual(steps[-1]["lambda"] > 0, algorithm == "dc_s3gd")
                self.assertTrue(all(0 <= s["overlap"] <= 1 for s in steps if s["overlap"] is not None))
                self.assertFalse(CONTROL.search(result.out), "mpirun's output is a pipe")

    def test_mistakes_are_told_once(self):
        for arguments, words in ((setting(run__epoch=1), "Did you mean run.epochs?"),
                                 (Data.CIFAR, "DCS3GD_DATA"),
                                 (setting(model__init="missing.safetensors"), "missing.safetensors"),
                                 (setting(run__output_dir="/proc/nowhere"), "run.output_dir")):
            with self.subTest(words):
                result = self.refuse_run(*arguments, ranks=3, says=words)
                self.assertEqual(result.err.count("error:"), 1, result)

    def test_divergence(self):
        result = self.refuse("--config", "tiny_run.yaml",
                             *setting(algorithm__name="dc_s3gd", run__name="run", optimizer__lr__base=1e6), ranks=3,
                             code=3, says="optimizer.lr.base")
        self.assertEqual(result.err.count("NaN or Inf"), 1, result)
        self.assertEqual(self.read_jsonl("runs/run/metrics.jsonl")[-1]["status"], "diverged")

    def test_a_killed_rank_ends_the_job(self):
        marker = f"marker{os.getpid()}"
        process = self.start("--config", "tiny_run.yaml",
                             *setting(algorithm__name="dc_s3gd", run__name=marker, run__epochs=1000000), ranks=3,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
        heard = []
        listener = threading.Thread(target=lambda: heard.append(process.stderr.read()))
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
