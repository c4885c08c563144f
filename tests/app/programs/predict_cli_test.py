"""dcs3gd-predict as a user meets it, beside what dcs3gd-train --eval says of the same photos, and OpenCV of its ONNX
files. Usage: cli_support.py."""

import csv
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
from cli_support import CliTest, main, write_photos, write_png
from processes import TIMEOUT_S

try:
    import cv2
    import numpy
    import onnx
except ImportError as missing:
    cv2 = None
    WHY_NOT = f"{missing}: scripts/setup.sh --test installs it"
else:
    WHY_NOT = ""

CONFIGURATION = """
run: {epochs: 1, eval_every_epochs: 0}
model: {name: resnet8, classes: 3}
data: {format: image_folder, train: photos/train, eval: photos/val, image_size: 16}
algorithm: {name: ssgd, batch_per_worker: 4}
optimizer: {lr: {base: 0.01, reference_batch: 4, warmup_epochs: 0}}
output: {progress: none}
"""
NAMES = ["cat", "dog", "emu"]
# What the networks of the zoo in the test do not have; adaptive pooling to what divides the image, and to what does not.
NETWORK = """
layers:
  - convolution: {name: a, channels: 8, kernel: 5, stride: 2, padding: 2, bias: true}
  - batch_norm: {name: b}
  - relu:
  - pooling: {method: average, kernel: 3, stride: 2, padding: 1}
  - adaptive_average_pooling: {size: 7}
  - adaptive_average_pooling: {size: 3}
  - dropout: {probability: 0.5}
  - convolution: {name: c, channels: $classes, bias: true}
  - batch_norm: {name: d}
  - global_average_pooling:
"""


class PredictTest(CliTest):
    def setUp(self):
        super().setUp()
        write_photos(self.folder / "photos", 8)
        (self.folder / "run.yaml").write_text(CONFIGURATION)

    def train(self, name, *settings, flags=()):
        line = [pathlib.Path(self.program).parent / "dcs3gd-train", "--config", "run.yaml", "--set", f"run.name={name}"]
        for setting in settings:
            line += ["--set", setting]
        result = subprocess.run([*map(str, line), *flags], cwd=self.folder, env=self.environment(None),
                                capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return f"runs/{name}"

    def rows(self, *arguments, **options):
        return list(csv.DictReader(io.StringIO(self.succeed(*arguments, "--format", "csv", **options).out)))

    def logits_of(self, file, photos, size):
        """What OpenCV computes of the middle of photos that an evaluation does not have to scale."""
        model = onnx.load(self.folder / file)
        onnx.checker.check_model(model)
        facts = {entry.key: json.loads(entry.value) if entry.value[0] in "[{" else entry.value
                 for entry in model.metadata_props}
        self.assertEqual(facts["class_names"], NAMES)
        mean, std = (numpy.array(facts[key], dtype=numpy.float32).reshape(1, -1, 1, 1) for key in ("mean", "std"))
        network = cv2.dnn.readNetFromONNX(str(self.folder / file))
        logits = []
        for photo in photos:
            image = cv2.imread(str(photo))[..., ::-1]
            edge = round((image.shape[0] - size) / 2)
            pixels = image[edge:edge + size, edge:edge + size].transpose(2, 0, 1)[None].astype(numpy.float32) / 255
            network.setInput((pixels - mean) / std)
            logits.append(network.forward().reshape(-1))
        return model, numpy.array(logits, dtype=numpy.float64)

    def check(self, network, size, *settings):
        photos = []
        side = size * 256 // 224
        for number in range(3):
            pixels = bytes((x * (number + 3) + 7 * y + 50 * c) % 256 for y in range(side) for x in range(side) for c in range(3))
            photos.append(self.folder / f"square/{number}.png")
            write_png(photos[-1], side, side, pixels)
        run = self.train(network, f"model.name={network}", f"data.image_size={size}", "run.max_steps=2", *settings)
        said = json.loads(self.succeed(run, *photos, "--format", "json").out)
        expected = numpy.zeros((len(photos), len(NAMES)))
        for row, entry in enumerate(said):
            for guess in entry["predictions"]:
                expected[row, guess["class"]] = guess["probability"]
        counts = []
        for extra in ([], ["--fold-batch-norm"]):
            self.succeed(run, "--export", "model.onnx", *extra)
            model, logits = self.logits_of("model.onnx", photos, size)
            powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
            found = powers / powers.sum(axis=1, keepdims=True)
            numpy.testing.assert_allclose(found, expected, atol=2e-4)
            counts.append([node.op_type for node in model.graph.node].count("BatchNormalization"))
        return counts


class Predictions(PredictTest):
    def test_are_those_of_an_evaluation(self):
        run = self.train("run")
        self.train("run", flags=["--eval", "--predictions", "said.csv"])
        with open(self.folder / "said.csv", encoding="utf-8") as file:
            expected = {row["file"].split("photos/val/")[-1]: row for row in csv.DictReader(file)}
        for what in (["photos/val"], sorted((self.folder / "photos/val").rglob("*.png"), reverse=True)):
            for extra in ([], ["--batch", 5], ["--batch", 1]):
                rows = self.rows(run, *what, *extra)
                self.assertEqual(len(rows), 12)
                if len(what) > 1:
                    self.assertEqual([row["file"] for row in rows], [str(path) for path in what])
                for row in rows:
                    right = expected[row["file"].split("photos/val/")[-1]]
                    for key in ("class1", "name1", "class2", "name2", "class3", "name3"):
                        self.assertEqual(row[key], right[key])
                    for key in ("probability1", "probability2", "probability3"):
                        self.assertAlmostEqual(float(row[key]), float(right[key]), delta=1e-5)

    def test_need_no_configuration_and_no_data_folder(self):
        run = self.train("run")
        shutil.move(self.folder / run / "best.safetensors", self.folder / "moved.safetensors")
        shutil.move(self.folder / "photos/val/dog/000.png", self.folder / "what is it")
        shutil.rmtree(self.folder / "photos")
        (self.folder / "run.yaml").unlink()
        row, = self.rows("moved.safetensors", "what is it")
        self.assertEqual(row["file"], "what is it")
        self.assertEqual({row["name1"], row["name2"], row["name3"]}, set(NAMES))
        self.assertAlmostEqual(sum(float(row[f"probability{place}"]) for place in (1, 2, 3)), 1, delta=1e-5)

    def test_formats(self):
        run = self.train("run")
        photos = ["photos/val/cat/000.png", "photos/val/emu/001.png"]
        table = self.succeed(run, *photos, "--top", 1).out.splitlines()
        self.assertEqual([line.split()[0] for line in table], photos)
        self.assertRegex(table[0], r"  (cat|dog|emu) \d+\.\d %$")
        objects = json.loads(self.succeed(run, *photos, "--format", "json", "--top", 2).out)
        self.assertEqual([entry["file"] for entry in objects], photos)
        rows = self.rows(run, *photos, "--top", 2)
        for entry, row in zip(objects, rows, strict=True):
            self.assertEqual(len(entry["predictions"]), 2)
            self.assertNotIn("class3", row)
            best = entry["predictions"][0]
            self.assertEqual((str(best["class"]), best["name"]), (row["class1"], row["name1"]))
            self.assertEqual(best["name"], NAMES[best["class"]])
            self.assertAlmostEqual(best["probability"], float(row["probability1"]), delta=1e-6)

    def test_a_photo_from_standard_input(self):
        run = self.train("run")
        photo = (self.folder / "photos/val/dog/001.png").read_bytes()
        result = subprocess.run([self.program, run, "-", "--format", "csv"], cwd=self.folder, input=photo,
                                env=self.environment(None), capture_output=True, timeout=TIMEOUT_S, check=True)
        piped, = csv.DictReader(io.StringIO(result.stdout.decode()))
        named, = self.rows(run, "photos/val/dog/001.png")
        self.assertEqual({**piped, "file": ""}, {**named, "file": ""})

    def test_photos_in_tar_files(self):
        run = self.train("run")
        with tarfile.open(self.folder / "inbox.tar", "w") as tar:
            tar.add(self.folder / "run.yaml", "run.yaml")
            tar.add(self.folder / "photos/val", "new")
        found = self.rows(run, "inbox.tar", "photos/val/emu")
        expected = {row["file"]: row for row in self.rows(run, "photos/val")}
        self.assertEqual(len(found), 16)
        for row in found:
            name = row.pop("file").replace("inbox.tar/new", "photos/val")
            self.assertEqual(row, {key: value for key, value in expected[name].items() if key != "file"})
        (self.folder / "cut.tar").write_bytes((self.folder / "inbox.tar").read_bytes()[:5000])
        self.refuse(run, "cut.tar", says="cut.tar: at byte")

    def test_photos_that_cannot_be_read_are_named_and_the_others_predicted(self):
        run = self.train("run")
        (self.folder / "photos/val/dog/000.png").write_bytes(b"no picture")
        result = self.refuse(run, "photos/val", "--format", "csv", code=1,
                             says=["photos/val/dog/000.png: neither JPEG nor PNG", "1 of 12 photos cannot be read"])
        self.assertEqual(len(result.out.splitlines()), 1 + 11)

    def test_however_many_photos_are_bad_the_others_are_predicted(self):
        run = self.train("run")
        for number in range(70):
            (self.folder / f"photos/val/cat/bad{number}.png").write_bytes(b"no picture")
        result = self.refuse(run, "photos/val", "--format", "json", code=1, says="70 of 82 photos cannot be read")
        self.assertEqual(len(json.loads(result.out)), 12)

    def test_images_that_are_stored_at_their_size_are_seen_as_they_are(self):
        pixels = {number: bytes((x * (number + 3) + 7 * y + 50 * c) % 256 for c in range(3) for y in range(32) for x in range(32))
                  for number in range(20)}
        records = b"".join(bytes([number % 3]) + image for number, image in pixels.items())
        (self.folder / "c").mkdir()
        for name in [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]:
            (self.folder / "c" / name).write_bytes(records)
        settings = ["data.format=cifar10", "data.train=c", "data.eval=c", "data.image_size=32", "model.classes=10"]
        run = self.train("run", *settings)
        self.train("run", *settings, flags=["--eval", "--predictions", "said.csv"])
        for number, image in pixels.items():
            by_pixel = bytes(image[c * 1024 + i] for i in range(1024) for c in range(3))
            write_png(self.folder / f"pngs/{number:02}.png", 32, 32, by_pixel)
        with open(self.folder / "said.csv", encoding="utf-8") as file:
            for row, expected in zip(self.rows(run, "pngs", "--top", 1), csv.DictReader(file), strict=True):
                self.assertEqual(row["class1"], expected["class1"])
                self.assertAlmostEqual(float(row["probability1"]), float(expected["probability1"]), delta=1e-5)

    def test_names_cannot_speak_to_a_terminal(self):
        run = self.train("run")
        name = "photos/val/cat/\x1b[31m\nred.png"
        shutil.copy(self.folder / "photos/val/cat/000.png", self.folder / name)
        table = self.succeed(run, name).out
        self.assertNotIn("\x1b", table)
        self.assertEqual(len(table.splitlines()), 1)
        self.assertEqual(json.loads(self.succeed(run, name, "--format", "json").out)[0]["file"], name)

    def test_output_that_is_lost_is_an_error(self):
        run = self.train("run")
        with open("/dev/full", "w", encoding="utf-8") as full:
            process = self.start(run, "photos/val", stdout=full, stderr=subprocess.PIPE, encoding="utf-8")
            _, err = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("standard output: No space left on device", err)

    def test_refusals(self):
        run = self.train("run")
        self.refuse(run, "nowhere.png", says="nowhere.png: No such file")
        (self.folder / "empty").mkdir()
        self.refuse(run, "empty", says="empty: no .jpg, .jpeg or .png files in it or below it")
        self.refuse("nowhere.safetensors", "photos", says="nowhere.safetensors")
        self.refuse("photos", "photos", says="photos: holds neither best.safetensors nor model.safetensors")
        self.refuse(run, says="images or --export FILE.onnx")
        self.refuse(run, "photos", "--top", 0, says="--top")
        self.refuse(run, "photos", "--fold-batch-norm", says="--export")
        self.refuse("photos/val/cat/000.png", "photos", says="000.png")
        weights = (self.folder / run / "model.safetensors").read_bytes()
        (self.folder / "foreign.safetensors").write_bytes(weights.replace(b"dcs3gd.card", b"another.key"))
        self.refuse("foreign.safetensors", "photos", says="says nothing of its network and classes")
        self.assertIn("dcs3gd-predict", self.succeed("--version").out)
        self.assertIn("--format", self.succeed("--help").out)


class Export(PredictTest):
    def test_what_stands_where_the_model_is_to_go(self):
        run = self.train("run")
        weights = (self.folder / run / "model.safetensors").read_bytes()
        self.refuse(run, "--export", f"{run}/model.safetensors", says="is for weights; name a FILE.onnx")
        (self.folder / "best").symlink_to(f"{run}/best.safetensors")
        self.refuse(run, "--export", "best", says="is for weights")
        self.assertEqual((self.folder / run / "model.safetensors").read_bytes(), weights)
        self.refuse(run, "--export", "nowhere/model.onnx", says="nowhere/model.onnx")
        self.refuse(run, "--export", "photos", says="photos: is a folder")
        self.refuse(run, "--export", "model.onnx", "nowhere.png", says="nowhere.png")
        self.assertFalse((self.folder / "model.onnx").exists())
        (self.folder / "old.onnx").write_text("old")
        (self.folder / "link.onnx").symlink_to("old.onnx")
        self.succeed(run, "--export", "link.onnx")
        self.assertTrue((self.folder / "link.onnx").is_symlink())
        self.assertGreater((self.folder / "old.onnx").stat().st_size, 10_000)

    def test_opencv_computes_the_same(self):
        if cv2 is None:
            self.skipTest(WHY_NOT)
        self.assertEqual(self.check("resnet20", 28)[1], 0)
        self.assertEqual(self.check("lenet5", 28), [0, 0])
        self.assertEqual(self.check("resnet18", 56), [20, 0])
        (self.folder / "own.yaml").write_text(NETWORK)
        self.assertEqual(self.check("own", 56, "model.file=own.yaml"), [2, 0])


if __name__ == "__main__":
    main()
