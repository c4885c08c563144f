"""What the train_*_cli_test.py share: short runs of dcs3gd-train, their data, and what they leave."""

import gzip
import hashlib
import pathlib
import random
import re
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
from cli_support import CliTest

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

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def setting(**keys):
    """run__max_steps=3 as --set run.max_steps=3."""
    arguments = []
    for key, value in keys.items():
        arguments += ["--set", f"{key.replace('__', '.')}={value}"]
    return arguments


class TrainTest(CliTest):
    CIFAR = setting(data__format="cifar10", data__train="c", data__eval="c", data__image_size=32, data__channels=3,
                    model__classes=10)

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
