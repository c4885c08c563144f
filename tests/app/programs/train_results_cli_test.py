"""dcs3gd-train as a user meets it: weights, predictions, TensorBoard's events, the trace. Usage: cli_support.py."""

import csv
import json
import pathlib
import re
import shutil
import struct
import time

import yaml

import event_file
from train_cli_support import STEPS, STEPS_PER_EPOCH, TINY, TrainTest, setting
from cli_support import main, write_photos


class Weights(TrainTest):
    def evaluation(self, text):
        match = re.search(r"top-1 (\S+) %  top-5 (\S+) %  loss (\S+)  \((\d+) images\)", text)
        self.assertTrue(match, text)
        return match.groups()

    def test_evaluation_of_saved_weights_is_that_of_the_run(self):
        for model in ("lenet5", "resnet20"):
            with self.subTest(model):
                result, _ = self.train(*setting(model__name=model, run__max_steps=10), name=model)
                lines = [line for line in result.out.splitlines() if "evaluation:" in line]
                final, best = lines[-1], [line for line in lines if "best so far" in line][-1]
                final, best = self.evaluation(final), self.evaluation(best)
                arguments = ["--config", "tiny_run.yaml", *setting(model__name=model, run__name=model), "--eval"]
                self.assertEqual(self.evaluation(self.succeed(*arguments).out), best)
                self.assertEqual(self.evaluation(self.succeed("--eval", f"runs/{model}").out), best)
                self.assertIn(f"runs/{model}/best.safetensors", result.out.splitlines()[-2])
                shutil.copy(self.folder / f"runs/{model}/model.safetensors", self.folder / "moved.safetensors")
                self.assertEqual(self.evaluation(self.succeed(*arguments, "moved.safetensors").out), final)
                self.assertEqual(self.evaluation(self.succeed(*arguments, "moved.safetensors", ranks=3).out), final)

    def test_a_result_that_is_no_number_is_none(self):
        self.train(*setting(model__name="resnet20", run__max_steps=2))
        content = bytearray((self.folder / "runs/run/best.safetensors").read_bytes())
        header_bytes = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8:8 + header_bytes])
        for name, tensor in header.items():
            if name.endswith("running_var"):
                begin, end = (8 + header_bytes + offset for offset in tensor["data_offsets"])
                content[begin:end] = struct.pack("<f", -5) * ((end - begin) // 4)
        self.write("negative.safetensors", bytes(content))
        network = setting(model__name="resnet20")
        self.refuse("--config", "tiny_run.yaml", *network, "--eval", "negative.safetensors", "--predictions", "p.csv", code=3,
                    says="the loss on the evaluation images is NaN or Inf")
        self.assertNotIn("p.csv", self.names())
        # Statistics that training does not change back at once.
        self.refuse("--config", "tiny_run.yaml", *network, *setting(run__name="negative", run__max_steps=1,
                    model__init="negative.safetensors"), code=3, says="NaN or Inf")
        self.assertFalse([name for name in self.names("runs/negative") if "safetensors" in name])
        self.assertEqual(self.read_jsonl("runs/negative/metrics.jsonl")[-1]["status"], "diverged")

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
        self.refuse_run("--eval", says="runs/tiny_run")
        (self.folder / "runs/tiny_run/checkpoints").mkdir(parents=True)
        self.refuse_run("--eval", says="runs/tiny_run: holds neither best.safetensors nor model.safetensors")

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
        self.refuse_run(*weights, *setting(model__name="resnet20"), says=["it says that it holds lenet5", "6x1x5x5", "layer1.0"])
        self.refuse_run(*weights, *setting(model__classes=3), says=["fc3.weight", "2x84", "3x84"])
        self.train(*setting(model__init="runs/run/model.safetensors", model__classes=3, model__init_skip="[fc3]",
                            run__max_steps=1), name="skipped")
        other = setting(model__init="runs/run/model.safetensors", model__classes=3, run__max_steps=1)
        self.refuse_run(*other, *setting(run__name="other"), says="set model.init_classifier: new")
        result, _ = self.train(*other, *setting(model__init_classifier="new", model__freeze="[conv1, conv2]"), name="new")
        self.assertIn("a new classifier of 3 classes, fc3, takes the place of the file's", result.out)
        self.refuse_run(*other, *setting(model__freeze="[cnv1]", run__name="other"), says="Did you mean conv1?")
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
        self.assertFalse([name for name in self.names() if name.endswith(".tmp")])
        (self.folder / "link.csv").symlink_to("target.csv")
        self.write("target.csv", "old")
        self.predict(*photos, *setting(run__name="run"), file="link.csv")
        self.assertTrue((self.folder / "link.csv").is_symlink())
        self.assertEqual(self.read("target.csv"), before)

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
        first, start, *events, best, end = self.events_of("run")
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
        summary = json.loads(self.read("runs/run/summary.json"))
        self.assertEqual((best["step"], best["scalars"]), (STEPS, {"eval/best_top1": summary["best_top1"]}))
        self.assertEqual(end["hparams"]["status"], 1)  # STATUS_SUCCESS
        self.assertLess(abs(end["hparams"]["end"] - time.time()), 600)
        settings = start["hparams"]["settings"]
        self.assertEqual([settings[key] for key in ("run.epochs", "algorithm.name", "algorithm.batch_per_worker",
                                                    "optimizer.nesterov", "optimizer.weight_decay")],
                         [2, "dc_s3gd", 4, False, 5e-4])
        self.assertFalse({"run.output_dir", "output.progress", "data.train"} & set(settings))

    def test_a_run_that_may_go_on_has_no_last_status(self):
        self.run_program("--config", "tiny_run.yaml", *setting(run__name="stopped", run__time_limit_minutes=1e-6))
        self.assertFalse(any("status" in event.get("hparams", {}) for event in self.events_of("stopped")))

    def test_numbers_that_are_null_are_left_out(self):
        self.train()
        steps = [event for event in self.events_of("run") if "train/loss" in event.get("scalars", {})]
        self.assertEqual(len(steps), STEPS)
        self.assertFalse(any("speed/overlap" in event["scalars"] for event in steps), "one rank has none")


class Mlflow(TrainTest):
    """Reads the store as MLflow's FileStore does."""

    def runs(self):
        experiment = yaml.safe_load(self.read("ml runs/0/meta.yaml"))
        self.assertEqual((experiment["experiment_id"], experiment["name"]), ("0", "Default"))
        self.assertEqual(experiment["artifact_location"], f"file://{self.folder}/ml%20runs/0")
        runs = []
        for folder in (self.folder / "ml runs/0").iterdir():
            if folder.is_dir():
                meta = yaml.safe_load((folder / "meta.yaml").read_text())
                self.assertEqual((meta["run_id"], meta["run_uuid"]), (folder.name, folder.name))
                self.assertRegex(folder.name, "^[0-9a-f]{32}$")
                self.assertEqual(meta["artifact_uri"], f"{experiment['artifact_location']}/{folder.name}/artifacts")
                runs.append((meta, folder))
        return runs

    @staticmethod
    def values(folder, kind):
        return {str(file.relative_to(folder / kind)): file.read_text()
                for file in (folder / kind).rglob("*") if file.is_file()}

    def numbers(self, folder, metric):
        lines = [line.split(" ") for line in (folder / "metrics" / metric).read_text().splitlines()]
        return [(int(step), float(value)) for _, value, step in lines]

    def test_the_store_says_what_the_metrics_say_and_a_run_goes_on_in_it(self):
        arguments = setting(run__name="it's 1", output__mlflow="ml runs", checkpoint__every_epochs=1)
        self.train(*arguments, *setting(run__epochs=1), name="it's 1")
        ((first, folder),) = self.runs()
        self.assertEqual([first[key] for key in ("status", "run_name", "experiment_id", "lifecycle_stage")],
                         [3, "it's 1", "0", "active"])
        # What a crash left: a later step, half a line.
        with (folder / "metrics/train/loss").open("a") as file:
            file.write(f"1 9.5 {STEPS_PER_EPOCH + 1}\n1 2.")
        _, metrics = self.train(*arguments, name="it's 1")
        ((meta, folder),) = self.runs()
        self.assertEqual([meta[key] for key in ("run_id", "start_time", "status")],
                         [first["run_id"], first["start_time"], 3])
        self.assertGreater(meta["end_time"], meta["start_time"])
        for metric, event, key in (("train/loss", "step", "loss"), ("speed/step_ms", "step", "step_ms"),
                                   ("eval/top1", "eval", "top1")):
            self.assertEqual(self.numbers(folder, metric),
                             [(line["step"], line[key]) for line in metrics if line["event"] == event])
        self.assertEqual(self.numbers(folder, "eval/best_top1")[-1],
                         (STEPS, json.loads(self.read("runs/it's 1/summary.json"))["best_top1"]))
        params = self.values(folder, "params")
        self.assertEqual([params[key] for key in ("run.epochs", "optimizer.lr.base", "model.name")],
                         ["2", "0.02", "lenet5"])
        tags = self.values(folder, "tags")
        self.assertEqual([tags["mlflow.runName"], tags["run_folder"]], ["it's 1", f"{self.folder}/runs/it's 1"])

    def test_a_run_of_its_own_and_how_it_ended(self):
        arguments = setting(output__mlflow="ml runs")
        self.train(*arguments, ranks=2)
        self.run_program("--config", "tiny_run.yaml", *arguments,
                         *setting(run__name="diverged", optimizer__lr__base=1e5))
        self.run_program("--config", "tiny_run.yaml", *arguments,
                         *setting(run__name="stopped", run__time_limit_minutes=1e-6))
        self.assertEqual(sorted((meta["run_name"], meta["status"]) for meta, _ in self.runs()),
                         [("diverged", 4), ("run", 3), ("stopped", 5)])

    def test_a_store_that_cannot_be_is_an_error(self):
        self.write("ml", "a file")
        self.refuse("--config", "tiny_run.yaml", *setting(output__mlflow="ml"), code=1, says=["cannot create", "/ml: "])


class Trace(TrainTest):
    def trace_of(self, ranks):
        self.train(*setting(algorithm__name="dc_s3gd", algorithm__fresh=0, algorithm__batch_per_worker=4,
                            output__trace="true", data__loader__threads=1), ranks=ranks)
        trace = json.loads(self.read("runs/run/trace.json"))
        events, self.prices = trace["traceEvents"], trace["otherData"]["staleness_price"]
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
            for name, count in (("gradient", 16), ("wait", 32), ("update", 16)):  # updates and their sums are waited for
                self.assertEqual(len(spans[rank, "compute", name]), count)
            # Two a step, and the running statistics before each of two evaluations.
            self.assertEqual(len(spans[rank, "communication", "all-reduce"]), 34)
            # Training batches; those of the evaluations are made in threads that have rows of their own.
            self.assertGreaterEqual(len(spans[rank, "loader", "batch"]), 16)
            for name in ("gradient", "wait", "update"):
                times = [(span["ts"], span["ts"] + span["dur"]) for span in spans[rank, "compute", name]]
                self.assertTrue(all(end <= begin for (_, end), (begin, _) in zip(times, times[1:])))
        self.assertEqual({event["args"]["name"].split(" on ")[0] for event in events
                          if event["name"] == "process_name"}, {"rank 0", "rank 1"})
        steps = self.of(self.read_jsonl("runs/run/metrics.jsonl"), "step")
        self.assertTrue(any(self.prices.values()) and any(step["staleness_price"] for step in steps))
        begins, ends = zip(*((event["ts"], event["ts"] + event["dur"]) for event in events if event["ph"] == "X"))
        end = self.read_jsonl("runs/run/metrics.jsonl")[-1]
        self.assertLess(max(ends) - min(begins), 1e6 * end["wall_s"] + 2e6, "the ranks' clocks agree")

    def test_the_all_reduce_lies_between_its_update_and_the_next_wait(self):
        _, spans = self.trace_of(ranks=2)
        updates, waits = spans[0, "compute", "update"], spans[0, "compute", "wait"]
        all_reduces = spans[0, "communication", "all-reduce"]
        ends = [span["ts"] + span["dur"] for span in all_reduces]
        waited = [span["ts"] + span["dur"] for span in waits]
        for step in range(7):
            own = slice(2 * step, 2 * step + 2)  # of the updates and of the sums
            self.assertLess(updates[step]["ts"], all_reduces[2 * step]["ts"])
            self.assertLess(max(ends[own]), max(waited[own]))

    def test_one_rank_and_no_trace(self):
        _, spans = self.trace_of(ranks=None)
        self.assertIn((0, "compute", "gradient"), spans)
        self.train(name="without")
        self.assertNotIn("trace.json", self.names("runs/without"))


if __name__ == "__main__":
    main()
