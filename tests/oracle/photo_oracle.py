#!/usr/bin/python3
"""Ten steps on photos: the real program against PyTorch, from files to losses.

    photo_oracle.py record SHOW_IMAGES            writes recordings/photos.txt
    photo_oracle.py DCS3GD_TRAIN SHOW_IMAGES      the program against the recording; with PyTorch against it as well

ResNet-18 on the photos of trashnet-sample under DCS3GD_DATA, with evaluation's transform and without augmentation:
order of the epoch, decoding, resizing, cropping, normalisation, SGD, and an evaluation after it. PyTorch sees either the
pixels of our own pipeline (then only arithmetic differs) or those of torchvision's Resize and CenterCrop on Pillow's
decodes (README.md says what that costs). Exit code 77: the photos or NumPy are not there.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import recording

try:
    import numpy as np

    import formula
    import safetensors_file
except ImportError as error:
    print(f"skipped: the oracle needs python3-numpy: {error}")
    sys.exit(77)

RECORDING = Path(__file__).resolve().parent / "recordings" / "photos.txt"
PHOTOS = Path(os.environ.get("DCS3GD_DATA", "/nonexistent")) / "trashnet-sample"

SEED = 1
STEPS = 10
BATCH = 16
IMAGE_SIZE = 32
RATE = 0.01
MOMENTUM = 0.9
WEIGHT_DECAY = 0.01
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])

CONFIGURATION = f"""
run: {{seed: {SEED}, epochs: 2, max_steps: {STEPS}, threads: 2}}
model: {{name: resnet18, classes: 6, init: first.safetensors}}
data: {{format: image_folder, train: {PHOTOS}, eval: {PHOTOS}, image_size: {IMAGE_SIZE}}}
algorithm: {{batch_per_worker: {BATCH}}}
optimizer: {{momentum: {MOMENTUM}, weight_decay: {WEIGHT_DECAY},
            lr: {{base: {RATE}, scaling: none, warmup_epochs: 0, schedule: constant}}}}
checkpoint: {{every_epochs: null}}
output: {{progress: none}}
"""

# Largest difference of a loss, relative to it; README.md says what was found.
TOLERANCES = {"own_pixels": 1e-5, "torchvision": 1e-2}
WRONG_SETTINGS = (
    "data.shuffle=false",
    "optimizer.momentum=0.89",
    "data.normalize={mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.23]}",
)


def photos_of(part):
    """Files and labels, as a folder is listed."""
    classes = sorted(path.name for path in (PHOTOS / "train").iterdir())
    return [
        (path, label) for label, name in enumerate(classes) for path in sorted((PHOTOS / part / name).iterdir())
    ]


def splitmix(value):
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def philox_numbers(key, stream):
    """Philox4x32-10 (Salmon et al., SC11): the stream's 32-bit numbers."""
    block = 0
    while True:
        counter = [block % 2**32, block >> 32, stream % 2**32, stream >> 32]
        k0, k1 = key % 2**32, key >> 32
        for _ in range(10):
            first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
            counter = [second >> 32 ^ counter[1] ^ k0, second % 2**32, first >> 32 ^ counter[3] ^ k1, first % 2**32]
            k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
        yield from counter
        block += 1


def order_of(epoch, count):
    """core/random_stream.h's shuffle for purpose 2: Fisher and Yates, from the end, with Lemire's bounded numbers."""
    numbers = philox_numbers(splitmix(splitmix(SEED) ^ 2), splitmix(splitmix(splitmix(epoch))))
    order = list(range(count))
    for last in range(count, 1, -1):
        product = next(numbers) * last
        while product % 2**32 < (2**32 - last) % last:
            product = next(numbers) * last
        other = product >> 32
        order[last - 1], order[other] = order[other], order[last - 1]
    return order


def training_batches(count):
    """Indices of each step; a last batch that is not full is dropped."""
    batches = []
    for epoch in range(2):
        order = order_of(epoch, count)
        batches += [order[i : i + BATCH] for i in range(0, count - BATCH + 1, BATCH)]
    return batches[:STEPS]


def own_pixels(show_images):
    def pixels(path):
        line = f"center {IMAGE_SIZE} 0 {path}\n".encode()
        answer = subprocess.run([show_images], input=line, capture_output=True, check=True).stdout
        head, _, planes = answer.partition(b"\n")
        assert head.startswith(b"ok "), head
        return np.frombuffer(planes, np.uint8).reshape(3, IMAGE_SIZE, IMAGE_SIZE)

    return pixels


def torchvision_pixels(path):
    from PIL import Image
    from torchvision import transforms

    framing = transforms.Compose([transforms.Resize(IMAGE_SIZE * 256 // 224), transforms.CenterCrop(IMAGE_SIZE)])
    with Image.open(path) as image:
        return np.asarray(framing(image.convert("RGB"))).transpose(2, 0, 1)


def trajectory(pixels_of):
    """PyTorch's losses in double precision, and those of its evaluation."""
    import torch

    import reference

    def tensors(photos):
        planes = np.stack([pixels_of(path) for path, _ in photos]).astype(np.float64)
        images = (planes / 255 - MEAN[:, None, None]) / STD[:, None, None]
        return torch.from_numpy(images), torch.tensor([label for _, label in photos])

    model = reference.build_model("resnet18", 3, 6)
    state = reference.first_state(model, SEED)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    model.double().train()
    optimizer = reference.optimizer_of(model, {"weight_decay": WEIGHT_DECAY, "momentum": MOMENTUM})
    for group in optimizer.param_groups:
        group["lr"] = RATE
    images, labels = tensors(photos_of("train"))
    losses = []
    for batch in training_batches(len(labels)):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    images, labels = tensors(photos_of("val"))
    with torch.no_grad():
        evaluation = torch.nn.functional.cross_entropy(model(images), labels).item()
    return [*losses, evaluation]


def trajectories(show_images):
    sources = {"own_pixels": own_pixels(show_images), "torchvision": torchvision_pixels}
    return {name: trajectory(pixels_of) for name, pixels_of in sources.items()}


class Program:
    """The program in a folder, with first weights by the formula."""

    def __init__(self, path, folder):
        self.path = str(Path(path).resolve())
        self.folder = folder
        (folder / "run.yaml").write_text(CONFIGURATION)
        # A step from random weights leaves a file with all names and shapes.
        self.run("run.name=shapes", "model.init=random", "run.max_steps=1")
        tensors = safetensors_file.read(folder / "runs/shapes/model.safetensors")
        norms = {name.removesuffix(".running_mean") for name in tensors if name.endswith(".running_mean")}
        for name, values in tensors.items():
            tensors[name] = formula.first_value(SEED, name, values.shape, name.rpartition(".")[0] in norms)
        safetensors_file.write(folder / "first.safetensors", tensors)

    def run(self, *settings):
        assignments = [word for setting in settings for word in ("--set", setting)]
        command = [self.path, "--config", "run.yaml", "--resume", "never", *assignments]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def losses(self, *settings):
        """Of ten steps, and of the evaluation."""
        self.run("run.name=trained", *settings)
        lines = (self.folder / "runs/trained/metrics.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        losses = [event["loss"] for event in events if event["event"] == "step"]
        return losses + [event["loss"] for event in events if event["event"] == "eval"][-1:]


def distance(found, expected):
    assert len(found) == len(expected) == STEPS + 1, (found, expected)
    return max(abs(a - b) / b for a, b in zip(found, expected))


def compare(program, show_images):
    _, recorded = recording.read(RECORDING)
    agrees = True
    found = program.losses()
    print("losses:", *(f"{loss:.6f}" for loss in found))
    for name, tolerance in TOLERANCES.items():
        apart = distance(found, recorded[name])
        print(f"{name}: {apart:.2g} apart, allowed {tolerance:.2g}")
        agrees = agrees and apart <= tolerance
    # What must be noticed, far beyond the tolerance for equal pixels.
    for wrong in WRONG_SETTINGS:
        apart = distance(program.losses(wrong), recorded["own_pixels"])
        print(f"{wrong}: {apart:.2g} apart")
        agrees = agrees and apart > 10 * TOLERANCES["own_pixels"]
    try:
        truth = trajectories(show_images)
    except ImportError as error:
        print(f"PyTorch was not asked again: {error}")
        return agrees
    for difference in recording.differences(recorded, truth):
        print(f"PyTorch and {RECORDING.name} differ: {difference}")
        agrees = False
    return agrees


def main(arguments):
    if not PHOTOS.is_dir():
        print("skipped: no trashnet-sample under DCS3GD_DATA")
        return 77
    match arguments:
        case ["record", show_images]:
            recording.write(RECORDING, {}, trajectories(show_images))
            return 0
        case [program, show_images]:
            with tempfile.TemporaryDirectory(prefix="dcs3gd-oracle-") as folder:
                return 0 if compare(Program(program, Path(folder)), show_images) else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
