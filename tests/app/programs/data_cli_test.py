"""dcs3gd-data as a user meets it, and training on what it makes. Usage: cli_support.py."""

import io
import json
import math
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
from cli_support import CliTest, main, write_photos, write_png
from processes import TIMEOUT_S, wait_until

CONFIGURATION = """
run: {epochs: 2, eval_every_epochs: 0}
model: {name: resnet20, classes: 3, convolution: direct}
data:
  format: image_folder
  train: photos/train
  eval: photos/val
  image_size: 16
  augment: {random_resized_crop: true, horizontal_flip: true, color_jitter: 0.4, mixup: 0.2}
algorithm: {name: dc_s3gd, batch_per_worker: 4}
output: {progress: none}
"""


def mean_difference(one, other):
    """Of two of Pillow's images, in levels."""
    differences = [abs(a - b) for a, b in zip(one.convert("RGB").tobytes(), other.convert("RGB").tobytes(), strict=True)]
    return sum(differences) / len(differences)


class DataTest(CliTest):
    def setUp(self):
        super().setUp()
        write_photos(self.folder / "photos", 8)
        (self.folder / "photos.yaml").write_text(CONFIGURATION)

    def with_trainer(self, run, name, *settings, flags=(), **options):
        """`run` is run_program() or start()."""
        self.program, program = str(pathlib.Path(self.program).parent / "dcs3gd-train"), self.program
        try:
            arguments = ["--config", "photos.yaml", "--set", f"run.name={name}"]
            for setting in settings:
                arguments += ["--set", setting]
            return run(*arguments, *flags, **options)
        finally:
            self.program = program

    def train(self, name, *settings, **options):
        return self.with_trainer(self.run_program, name, *settings, **options)

    def steps(self, name):
        """The events of the steps so far; a line that is being written does not count."""
        path = self.folder / f"runs/{name}/metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == "step"]

    def assert_trains(self, name, *settings, **options):
        result = self.train(name, *settings, **options)
        self.assertEqual(result.code, 0, result)
        return self.tensors(name)

    def tensors(self, name):
        """The final weights' bytes, without the file's header: classes may have other names."""
        content = (self.folder / "runs" / name / "model.safetensors").read_bytes()
        return content[8 + int.from_bytes(content[:8], "little"):]

    def assert_refused(self, name, *settings, says, code=2, **options):
        result = self.train(name, *settings, **options)
        self.assertEqual(result.code, code, result)
        for words in says:
            self.assertIn(words, result.err, result)
        if "ranks" not in options:  # Open MPI 5's launcher writes one itself
            self.assertNotIn("\x00", result.err)

    def shard(self, number=0, part="train"):
        return self.folder / f"packed/{part}/shard-{number:05}.bin"

    def test_training_on_folder_and_shards_gives_the_same_weights(self):
        self.succeed("prepare", "photos", "packed", "--threads", "2")
        from_folder = self.assert_trains("folder")
        shards = ["data.format=shards", "data.train=packed", "data.eval=packed/val"]
        self.assertEqual(self.assert_trains("shards", *shards, "data.loader.threads=3"), from_folder)
        self.assertEqual(self.assert_trains("inline", "data.loader.threads=0"), from_folder)
        two_ranks = self.assert_trains("ranks", *shards, ranks=2)
        self.assertEqual(self.assert_trains("ranks_folder", ranks=2), two_ranks)

    def test_prepare_goes_on_where_it_was_interrupted(self):
        self.succeed("prepare", "photos", "packed")
        whole = {path.name: path.read_bytes() for path in (self.folder / "packed/train").iterdir()}
        self.assertEqual(sorted(whole), ["shard-00000.bin", "shards.txt"])
        self.assertIn("1 of them there before", self.succeed("prepare", "photos", "packed").out)
        (self.folder / "packed/train/shards.txt").unlink()
        self.shard().unlink()
        self.succeed("prepare", "photos", "packed")
        self.assertEqual({path.name: path.read_bytes() for path in (self.folder / "packed/train").iterdir()}, whole)
        self.refuse("prepare", "photos", "packed", "--shard-mb", "7", says=["shard-00000.bin", "another folder"])
        self.refuse("prepare", "packed", "again", says="found shards")
        self.refuse("prepare", "nowhere", "again", says="nowhere")

    def test_prepare_shrinks_what_is_larger(self):
        small = ["--max-side", "48"]  # of photos 40 to 61 pixels wide and 60 to 53 high
        self.succeed("prepare", "photos", "small", *small, "--threads", "2")
        out = self.succeed("inspect", "small").out
        self.assertIn("made         longer side at most 48 pixels, larger images as JPEG of quality 90", out)
        self.assertIn("24 images of 3 classes (cat 8, dog 8, emu 8)", out)
        self.assertIn("all 36 images can be read", self.succeed("verify", "small").out)
        self.assertIn("1 of them there before", self.succeed("prepare", "photos", "small", *small).out)
        for other in ([], ["--max-side", "47"], [*small, "--quality", "80"]):
            self.refuse("prepare", "photos", "small", *other, says=["shard-00000.bin", "--max-side or --quality"])
        self.refuse("prepare", "photos", "other", "--quality", "80", says="--max-side")
        self.refuse("prepare", "photos", "other", "--max-side", "0", says="--max-side")
        packed = (self.folder / "small/train/shard-00000.bin").read_bytes()
        self.assertEqual(packed.count(b"\x89PNG"), 0)
        self.assertEqual(packed.count(b"\xff\xd8\xff\xe0"), 24)
        self.assert_trains("shrunk", "data.format=shards", "data.train=small", "data.eval=small")

        # None is larger, or none can be decoded: the files as they are.
        for path in (self.folder / "photos/val").rglob("*.png"):
            path.write_bytes(path.read_bytes()[:200])
        result = self.succeed("prepare", "photos", "same", "--max-side", "61")
        self.assertIn("val/cat/000.png: the file ends before the image does; packed as it is", result.err + result.out)
        self.succeed("prepare", "photos", "packed")
        images_end = 8 + sum(path.stat().st_size for path in (self.folder / "photos/train").rglob("*.png"))
        same, packed = ((self.folder / f"{name}/train/shard-00000.bin").read_bytes() for name in ("same", "packed"))
        self.assertEqual(same[:images_end], packed[:images_end])

    def test_shrunk_photos_are_the_photos_resized(self):
        try:
            from PIL import Image
        except ImportError:
            self.skipTest("needs python3-pil")
        sizes = {"high": (90, 500), "small": (60, 64), "wide": (400, 300)}
        for name, (width, height) in sizes.items():
            pixels = bytes(int(128 + 100 * math.sin(x / 25 + channel) * math.cos(y / 35))
                           for y in range(height) for x in range(width) for channel in range(3))
            write_png(self.folder / f"smooth/class/{name}.png", width, height, pixels)
        for quality in (90, 40):
            self.succeed("prepare", "smooth", f"q{quality}", "--max-side", "64", "--quality", quality)
            for name, image in self.images(self.folder / f"q{quality}/shard-00000.bin").items():
                original = Image.open(self.folder / "smooth" / name)
                shrunk = Image.open(io.BytesIO(image))
                longer = max(original.size)
                expected = tuple(round(side * min(1, 64 / longer)) for side in original.size)
                self.assertEqual((shrunk.size, shrunk.format), (expected, "PNG" if "small" in name else "JPEG"))
                resized = original.resize(expected, Image.BILINEAR)
                by_pillow = io.BytesIO()
                resized.save(by_pillow, "JPEG", quality=quality)
                allowed = mean_difference(Image.open(by_pillow), resized) + 0.2
                self.assertLess(mean_difference(shrunk, resized), allowed, name)
        self.assertLess(*((self.folder / f"q{quality}/shard-00000.bin").stat().st_size for quality in (40, 90)))

    def images(self, shard):
        """Name -> bytes, by the index of the shard."""
        content = shard.read_bytes()
        records, count, names_bytes = struct.unpack_from("<QQQ", content, len(content) - 48)
        names = content[records + 24 * count:][:names_bytes].decode().split("\0")
        places = [struct.unpack_from("<QQII", content, records + 24 * number) for number in range(count)]
        return {name: content[offset:offset + size] for name, (offset, _, size, _) in zip(names, places)}

    def test_inspect_and_verify(self):
        self.succeed("prepare", "photos", "packed")
        for path in ("photos", "packed"):
            out = self.succeed("inspect", path).out
            self.assertIn("24 images of 3 classes (cat 8, dog 8, emu 8)", out)
            self.assertIn("12 images of 3 classes (cat 4, dog 4, emu 4)", out)
            self.assertIn("all 36 images can be read", self.succeed("verify", path, "--threads", "2").out)
        content = bytearray(self.shard().read_bytes())
        content[2000] ^= 1
        self.shard().write_bytes(content)
        self.refuse("verify", "packed", says=["cat/0", "checksum is wrong", "1 of 36 images cannot be read"])
        content[-60] ^= 1
        self.shard().write_bytes(content)
        self.refuse("inspect", "packed", says=["shard-00000.bin", "index is wrong", "dcs3gd-data prepare"])
        self.shard().write_bytes(content[:-1])
        self.refuse("inspect", "packed", says="no shard, or cut off")
        (self.folder / "photos/val/dog/001.png").write_bytes(b"")
        self.refuse("verify", "photos", says=["val/dog/001.png: the file is empty", "1 of 36"])

    def test_bad_images(self):
        bad = self.folder / "photos/train/dog/003.png"
        bad.write_bytes(bad.read_bytes()[:200])
        self.assert_refused("stops", code=1, says=["dog/003.png", "ends before", "on_bad_image: skip"])
        self.assert_refused("stops2", code=1, ranks=2, says=["dog/003.png"])
        skip = "data.loader.on_bad_image=skip"
        one_thread = self.assert_trains("skips", skip)
        self.assertEqual(self.assert_trains("skips0", skip, "data.loader.threads=0"), one_thread)
        self.assertIn("dog/003.png", self.read("runs/skips/log.txt"))
        steps = self.steps("skips")
        self.assertEqual(steps[-1]["bad_images"], 2)  # once in each epoch
        self.assertTrue(all(step["data_wait_ms"] >= 0 for step in steps))
        for path in (self.folder / "photos/val").rglob("*.png"):
            path.write_bytes(b"?")
        self.assert_refused("nothing", skip, code=1, ranks=2, says=["none of the evaluation images could be read"])

    def test_files_that_change_during_training(self):
        photos = self.folder / "photos/train"
        changes = {
            "vanishes": (pathlib.Path.unlink, "cat/002.png: No such file"),
            "shrinks": (lambda path: os.truncate(path, 100), "cat/002.png: the file ends"),
            "forbidden": (lambda path: path.chmod(0), "cat/002.png: Permission denied"),
        }
        if os.geteuid() == 0:
            del changes["forbidden"]  # nothing is to root
        long = ["run.epochs=100000", "checkpoint.every_epochs=null"]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        for name, (change, says) in changes.items():
            with self.subTest(name):
                write_photos(self.folder / "photos", 8)
                process = self.with_trainer(self.start, name, *long, ranks=2, **pipes)
                self.assertTrue(wait_until(lambda: self.steps(name)))
                change(photos / "cat/002.png")
                err = process.communicate(timeout=TIMEOUT_S)[1]
                self.assertEqual(process.returncode, 1, err)  # the run had begun
                self.assertIn(says, err)

        write_photos(self.folder / "photos", 8)
        skip = "data.loader.on_bad_image=skip"
        process = self.with_trainer(self.start, "skips", skip, *long, ranks=2, **pipes)
        self.assertTrue(wait_until(lambda: self.steps("skips")))
        for number, (change, _) in enumerate(changes.values()):
            change(photos / f"dog/{number:03}.png")
        self.assertTrue(wait_until(lambda: self.steps("skips")[-1]["bad_images"] > 2 * len(changes)))
        time.sleep(2)
        # A folder that is away for a moment is waited for; one that is gone ends the run.
        for away_s in (0.25, None):
            known = self.steps("skips")[-1]
            photos.rename(self.folder / "away")
            if away_s:
                time.sleep(away_s)
                (self.folder / "away").rename(photos)
                self.assertTrue(wait_until(lambda: self.steps("skips")[-1]["step"] > known["step"] + 5))
        err = process.communicate(timeout=TIMEOUT_S)[1]
        self.assertEqual(process.returncode, 1, err)
        self.assertRegex(err, "64 images in a row cannot be read|that this rank cannot read")
        logs = "".join(path.read_text() for path in (self.folder / "runs/skips").glob("log*.txt"))
        for number in range(len(changes)):
            self.assertIn(f"dog/{number:03}.png", logs)

    def write_tars(self, folder, form):
        """The photos as WebDataset has them: two tar files a part, other files among them."""
        for part in ("train", "val"):
            (self.folder / folder / part).mkdir(parents=True)
            paths = sorted((self.folder / "photos" / part).rglob("*.png"))
            for number, half in enumerate((paths[: len(paths) // 2], paths[len(paths) // 2 :])):
                name = self.folder / folder / part / f"{number:03}.tar"
                with tarfile.open(name, "w", format=form) as tar:
                    for path in half:
                        key = f"{'long-' * 30}/{path.parent.name}-{path.stem}"
                        label = sorted(["cat", "dog", "emu"]).index(path.parent.name)
                        files = {"cls": str(label).encode(), "json": b"{}", "png": path.read_bytes()}
                        for extension, content in files.items():
                            member = tarfile.TarInfo(f"{key}.{extension}")
                            member.size = len(content)
                            tar.addfile(member, io.BytesIO(content))

    def test_tar_files_of_every_format_train_as_the_folder_does(self):
        from_folder = self.assert_trains("folder")
        forms = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
        for name, form in forms.items():
            self.write_tars(name, form)
            shards = ["data.format=shards", f"data.train={name}", f"data.eval={name}"]
            result = self.train(name, *shards)
            self.assertIn("2 of 2 tar files were read", result.err, result)
            self.assertEqual(self.tensors(name), from_folder)
        two_ranks = self.train("walked", *shards, ranks=2)
        self.assertEqual(two_ranks.err.count("tar files were read"), 2, two_ranks)  # of each part by rank 0 alone
        counted = self.train("counted", *shards, "model.classes=auto")
        self.assertEqual((counted.code, counted.err.count("tar files were read")), (0, 2), counted)
        self.assertIn("12 images in 2 tar files, 12 other files passed over; 0 indices", self.succeed("index", "gnu").out)
        self.assertIn("; 2 indices there before", self.succeed("index", "gnu").out)
        self.assertEqual(self.names("gnu/val"), ["000.tar", "000.tar.index", "001.tar", "001.tar.index"])
        shards = ["data.format=shards", "data.train=gnu", "data.eval=gnu"]
        self.assertNotIn("tar files were read", self.train("indexed", *shards).err)
        self.assertEqual(self.tensors("indexed"), from_folder)
        self.assertEqual(self.assert_trains("ranks", *shards, ranks=2), self.assert_trains("folder2", ranks=2))
        self.assertIn("24 images of 3 classes (0 8, 1 8, 2 8) in 2 tar files", self.succeed("inspect", "gnu").out)
        self.assertIn("all 36 images can be read", self.succeed("verify", "gnu").out)

    def test_tar_files_that_gnu_tar_made(self):
        for number, path in enumerate(sorted((self.folder / "photos/train").rglob("*.png"))):
            flat = self.folder / f"flat/{path.parent.name}{path.name}"
            flat.parent.mkdir(exist_ok=True)
            flat.write_bytes(path.read_bytes())
            flat.with_suffix(".cls").write_text(f"{number // 8}\n")
        (self.folder / "tars").mkdir()
        for form in ("v7", "ustar", "gnu", "posix"):
            subprocess.run(["tar", "--sort=name", f"--format={form}", "-cf", f"tars/{form}.tar", "-C", "flat", "."],
                           cwd=self.folder, check=True)
        self.assertIn("96 images of 3 classes (0 32, 1 32, 2 32) in 4 tar files", self.succeed("inspect", "tars").out)
        self.assertIn("all 96 images can be read", self.succeed("verify", "tars").out)

    def test_broken_tar_files(self):
        self.write_tars("tars", tarfile.PAX_FORMAT)
        path = self.folder / "tars/train/001.tar"
        whole = path.read_bytes()
        shards = ["data.format=shards", "data.train=tars", "data.eval=tars"]
        self.succeed("index", "tars")
        path.write_bytes(whole[:5000])
        for ranks in (None, 2):
            self.assert_refused("cut", *shards, ranks=ranks, says=["train/001.tar: at byte", "cut off"])
        self.refuse("index", "tars", says=["train/001.tar: at byte", "cut off"])
        path.write_bytes(whole[:1500] + b"?" + whole[1501:])
        self.refuse("inspect", "tars", says=["train/001.tar: at byte 1024: expected a tar header"])
        self.refuse("index", "photos", says="expected tar files")
        self.assertFalse((self.folder / "runs").exists())

    def test_labels_mean_what_the_weights_say(self):
        self.assert_trains("names")
        csv_of = lambda name: [line.split(",")[2:6] for line in self.read(name).splitlines()[1:]]
        whole = self.train("names", flags=["--eval", "runs/names/model.safetensors", "--predictions", "whole.csv"])
        self.assertEqual(whole.code, 0, whole)
        # The training data elsewhere or not named, the second class not there: the same labels and answers.
        shutil.copytree(self.folder / "photos/val", self.folder / "part")
        shutil.rmtree(self.folder / "part/dog")
        expected = [row for row in csv_of("whole.csv") if row[1] != "dog"]
        for train in ("elsewhere", "null", "part"):
            result = self.train("names", f"data.train={train}", "data.eval=part",
                                flags=["--eval", "runs/names/model.safetensors", "--predictions", "part.csv"])
            self.assertEqual(result.code, 0, result)
            self.assertEqual(csv_of("part.csv"), expected)
        (self.folder / "part/cat").rename(self.folder / "part/cow")
        self.assert_refused("names", "data.eval=part", flags=["--eval", "runs/names/model.safetensors"],
                            says=["part/cow: no class of this name", "(cat, dog, emu)"])
        self.assert_refused("none", "data.train=null", says=["missing: data.train"])
        # A run goes on with the classes it began with.
        (self.folder / "photos/train/cat").rename(self.folder / "photos/train/cow")
        self.assert_refused("names", "run.epochs=3", says=["train/cow: no class of this name", "(cat, dog, emu)"])
        (self.folder / "photos/train/cow").rename(self.folder / "photos/train/cat")
        # To begin with weights for other classes is seldom meant.
        shutil.copytree(self.folder / "photos", self.folder / "others")
        for part in ("train", "val"):
            (self.folder / "others" / part / "cat").rename(self.folder / "others" / part / "gnu")
        tuned = ["data.train=others", "data.eval=others", "model.init=runs/names/model.safetensors"]
        self.assertIn("trained for other classes", self.train("kept", *tuned).err)
        self.assertNotIn("trained for other classes", self.train("new", *tuned, "model.init_skip=[fc]").err)
        # Packed by itself, the part has labels of its own.
        (self.folder / "part/cow").rename(self.folder / "part/cat")
        self.succeed("prepare", "part", "packed_part")
        result = self.train("names", "data.format=shards", "data.train=null", "data.eval=packed_part",
                            flags=["--eval", "runs/names/model.safetensors", "--predictions", "packed.csv"])
        self.assertEqual(result.code, 0, result)
        self.assertEqual(csv_of("packed.csv"), expected)

    def test_classes_that_are_counted_and_what_is_seldom_meant(self):
        self.assertNotIn("model.classes", self.train("auto", "model.classes=auto").err)
        self.assertIn("classes: 3\n", re.sub(" +#.*", "", self.read("runs/auto/config.yaml")))
        self.assertEqual(self.tensors("auto"), self.assert_trains("three"))
        result = self.train("more", "model.classes=10")
        self.assertIn("model.classes is 10, the training data have 3 classes: 7 of the model's outputs", result.err)
        self.assertIn("the training data have 3 classes", self.train("dry", "model.classes=10", flags=["--dry-run"]).err)
        for number, path in enumerate(sorted((self.folder / "photos/val").rglob("*.png"))):
            path.rename(path.with_name(f"other{number}.png"))
        self.assertNotIn("evaluation images seem to be training images", self.train("other").err)
        result = self.train("same", "data.train=photos/train", "data.eval=photos/train")
        self.assertIn("24 of the 24 evaluation images seem to be training images too", result.err)
        self.assert_refused("one", "data.train=photos/only", says=["nothing found"])
        shutil.copytree(self.folder / "photos/train/cat", self.folder / "only/cat")
        self.assert_refused("one", "data.train=only", "data.eval=only", says=["found one class"])

    def test_more_shards_than_files_may_be_open(self):
        (self.folder / "many").mkdir()
        photo = next((self.folder / "photos/train/cat").iterdir()).read_bytes()
        for number in range(300):
            with tarfile.open(self.folder / f"many/{number:03}.tar", "w") as tar:
                for name, content in (("a.cls", str(number % 3).encode()), ("a.png", photo)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        for limits in (["-S"], ["-S", "-H"]):
            script = "".join(f"ulimit {limit} -n 100 && " for limit in limits) + 'exec "$0" "$@"'
            line = ["bash", "-c", script, *self.command(["verify", "many"])]
            done = subprocess.run(line, cwd=self.folder, capture_output=True, encoding="utf-8", timeout=TIMEOUT_S, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("all 300 images can be read", done.stdout)

    def test_folders_that_cannot_be_trained_on(self):
        empty = self.folder / "photos/train/fox"
        empty.mkdir()
        for ranks in (None, 2):
            says = ["train/fox", "expected images", "found none"]
            self.assert_refused("empty", "model.classes=4", ranks=ranks, says=says)
        empty.rmdir()
        self.assert_refused("few", "algorithm.batch_per_worker=13", ranks=2, says=["13 images = 26", "found 24 images"])
        self.assert_refused("classes", "model.classes=2", says=["found 3 classes", "set model.classes: 3"])
        self.assert_refused("format", "data.format=shards", says=["expected shards", "dcs3gd-data prepare"])
        self.assertFalse((self.folder / "runs").exists())

    def test_dry_run_of_the_imagenet_recipe(self):
        recipe = pathlib.Path(__file__).parents[3] / "configs/resnet50.yaml"
        (self.folder / "photos.yaml").write_text(recipe.read_text())
        small = ["data.image_size=64", "algorithm.batch_per_worker=2"]  # the same network, sooner
        result = self.train("plan", "data.train=photos", "data.eval=photos", *small, flags=["--dry-run"])
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.out, r"training data +image_folder .*photos/train: 24 images of 3 classes ")
        self.assertRegex(result.out, r"(?m)^steps +1080 \(90 epochs x 12\)$")
        self.assertRegex(result.out, r"evaluation data +image_folder .*photos/val: 12 images of 3 classes")
        self.assertIn("parameters: 25557032", result.out)
        result = self.train("plan", *small, flags=["--dry-run"])
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.out, r"training data +not on this machine: imagenet/train")
        result = self.train("plan", *small, "data.eval=null", "data.split=0.2", flags=["--dry-run"])
        self.assertRegex(result.out, r"evaluation data +not on this machine: imagenet/train")
        self.assertEqual(self.names(), ["photos", "photos.yaml"])

    def test_shards_are_not_put_among_their_images(self):
        (self.folder / "link").symlink_to("photos")
        for output in ("photos", "photos/", "photos/train", "photos/new", "link", "x/../photos"):
            self.refuse("prepare", "photos", output, says="in the folder of their images")
        self.assertEqual(self.names("photos"), ["train", "val"])

    def test_names_forge_no_lines(self):
        evil = "a\n12:34:56 error: forged\x1b[31m\x1b]0;owned\x07\x9b"
        (self.folder / f"photos/train/cat/{evil}.jpg").write_bytes(b"no photo")
        for part in ("train", "val"):
            (self.folder / f"photos/{part}/cat").rename(self.folder / f"photos/{part}/cat{evil}")
        for command in ("inspect", "verify"):
            result = self.run_program(command, "photos")
            for text in (result.out, result.err):
                self.assertNotRegex(text, r"(?m)^12:34:56 error")
                self.assertNotRegex(text, r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
        self.assertIn("forged", result.out + result.err)

    def test_wrong_usage(self):
        for flags in (("-h", "--help"), ("-v", "--version")):
            first, second = (self.succeed(flag).out for flag in flags)
            self.assertEqual(first, second)
        self.assertRegex(first, r"^dcs3gd-data \d+\.\d+\.\d+\n$")
        self.refuse(says="--help")
        self.refuse("prepare", "photos", says="output")
        self.refuse("verify", "photos", "--threads", "0", says="--threads")
        self.refuse("inspect", "nowhere", says="nowhere")


if __name__ == "__main__":
    main()
