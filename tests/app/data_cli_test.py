"""dcs3gd-data as a user meets it, and training on what it makes. Usage: cli_support.py."""

import pathlib

from cli_support import CliTest, main, write_photos

CONFIGURATION = """
run: {epochs: 2, eval_every_epochs: 0}
model: {name: resnet20, classes: 3}
data:
  format: image_folder
  train: photos/train
  eval: photos/val
  image_size: 16
  augment: {random_resized_crop: true, horizontal_flip: true, color_jitter: 0.4, mixup: 0.2}
algorithm: {name: dc_s3gd, batch_per_worker: 4}
output: {progress: none}
"""


class DataTest(CliTest):
    def setUp(self):
        super().setUp()
        write_photos(self.folder / "photos", 8)
        (self.folder / "photos.yaml").write_text(CONFIGURATION)

    def train(self, name, *settings, **options):
        self.program, program = str(pathlib.Path(self.program).parent / "dcs3gd-train"), self.program
        try:
            arguments = ["--config", "photos.yaml", "--set", f"run.name={name}"]
            for setting in settings:
                arguments += ["--set", setting]
            return self.run_program(*arguments, *options.pop("flags", []), **options)
        finally:
            self.program = program

    def assert_trains(self, name, *settings, **options):
        result = self.train(name, *settings, **options)
        self.assertEqual(result.code, 0, result)
        return (self.folder / "runs" / name / "model.safetensors").read_bytes()

    def assert_refused(self, name, *settings, says, **options):
        result = self.train(name, *settings, **options)
        self.assertEqual(result.code, 2, result)
        for words in says:
            self.assertIn(words, result.err, result)
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
        self.assert_refused("stops", says=["dog/003.png", "ends before", "on_bad_image: skip"])
        self.assert_refused("stops2", ranks=2, says=["dog/003.png"])
        skip = "data.loader.on_bad_image=skip"
        one_thread = self.assert_trains("skips", skip)
        self.assertEqual(self.assert_trains("skips0", skip, "data.loader.threads=0"), one_thread)
        self.assertIn("dog/003.png", self.read("runs/skips/log.txt"))
        steps = [event for event in self.read_jsonl("runs/skips/metrics.jsonl") if event["event"] == "step"]
        self.assertEqual(steps[-1]["bad_images"], 2)  # once in each epoch
        self.assertTrue(all(step["data_wait_ms"] >= 0 for step in steps))
        for path in (self.folder / "photos/val").rglob("*.png"):
            path.write_bytes(b"?")
        self.assert_refused("nothing", skip, ranks=2, says=["none of the evaluation images could be read"])

    def test_folders_that_cannot_be_trained_on(self):
        empty = self.folder / "photos/train/fox"
        empty.mkdir()
        self.assert_refused("empty", "model.classes=4", says=["train/fox", "expected images", "found none"])
        empty.rmdir()
        self.assert_refused("few", "algorithm.batch_per_worker=13", ranks=2, says=["13 images = 26", "found 24 images"])
        self.assert_refused("classes", "model.classes=2", says=["found 3 classes", "set model.classes: 3"])
        self.assert_refused("format", "data.format=shards", says=["expected shards", "dcs3gd-data prepare"])
        self.assertFalse((self.folder / "runs").exists())

    def test_dry_run_of_the_imagenet_recipe(self):
        recipe = pathlib.Path(__file__).parents[2] / "configs/resnet50.yaml"
        (self.folder / "photos.yaml").write_text(recipe.read_text())
        small = ["data.image_size=64", "algorithm.batch_per_worker=2"]  # the same network, sooner
        result = self.train("plan", "data.train=photos", "data.eval=photos", *small, flags=["--dry-run"])
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.out, r"training data +image_folder .*photos/train: 24 images of 3 classes .*12 steps per")
        self.assertRegex(result.out, r"evaluation data +image_folder .*photos/val: 12 images of 3 classes")
        self.assertIn("parameters: 25557032", result.out)
        result = self.train("plan", *small, flags=["--dry-run"])
        self.assertEqual(result.code, 0, result)
        self.assertRegex(result.out, r"training data +not on this machine: imagenet/train")
        self.assertEqual(self.names(), ["photos", "photos.yaml"])

    def test_wrong_usage(self):
        self.refuse(says="--help")
        self.refuse("prepare", "photos", says="output")
        self.refuse("verify", "photos", "--threads", "0", says="--threads")
        self.refuse("inspect", "nowhere", says="nowhere")


if __name__ == "__main__":
    main()
