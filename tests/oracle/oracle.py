#!/usr/bin/python3
"""The oracle: PyTorch computes what the engine should. README.md explains.

    oracle.py record [MODEL]...                  writes recordings/MODEL.txt
    oracle.py live ORACLE_ENGINE [MODEL]...      compares the engine with PyTorch, and PyTorch with the recordings

Exit code 77: PyTorch is missing.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import recording

try:
    import numpy as np
    import torch
    import reference
    import safetensors_file
except ImportError as error:
    print(f"skipped: the oracle needs python3-torch and python3-torchvision: {error}")
    sys.exit(77)

RECORDINGS = Path(__file__).resolve().parent / "recordings"
THREADS = 2

# A warm-up of one epoch and the first steps after it; the scaling by the batch is 1/2.
SHARED_SETTINGS = {
    "steps": 5,
    "steps_per_epoch": 3,
    "epochs": 2,
    "warmup_epochs": 1,
    "momentum": 0.9,
    "weight_decay": 0.05,
}
MODELS = {
    "lenet5": {
        "channels": 1, "image_size": 28, "classes": 10, "batch": 16, "evaluation_images": 11,
        "label_smoothing": 0.0, "reference_batch": 32, "base_rate": 0.1, "warmup_start": 0.02,
    },
    "resnet20": {
        "channels": 3, "image_size": 16, "classes": 10, "batch": 16, "evaluation_images": 13,
        "label_smoothing": 0.1, "reference_batch": 32, "base_rate": 0.3, "warmup_start": 0.06,
    },
    "resnet18": {
        "channels": 3, "image_size": 32, "classes": 10, "batch": 8, "evaluation_images": 7,
        "label_smoothing": 0.0, "reference_batch": 16, "base_rate": 0.06, "warmup_start": 0.02,
    },
    "vgg11_bn": {
        "channels": 3, "image_size": 32, "classes": 10, "batch": 4, "evaluation_images": 3,
        "label_smoothing": 0.0, "reference_batch": 8, "base_rate": 0.02, "warmup_start": 0.01,
    },
    "resnet50": {
        "channels": 3, "image_size": 48, "classes": 12, "batch": 8, "evaluation_images": 7,
        "label_smoothing": 0.0, "reference_batch": 16, "base_rate": 0.06, "warmup_start": 0.02,
    },
}  # fmt: skip


def path_of(name):
    return RECORDINGS / f"{name}.txt"


def record(name):
    for seed in itertools.count(1):
        settings = {"seed": seed, **SHARED_SETTINGS, **MODELS[name]}
        model = reference.build_model(name, settings["channels"], settings["classes"])
        try:
            results = reference.Reference(name, settings, reference.first_state(model, seed)).results
        except reference.UnsafeMargin as problem:
            print(f"{name}: seed {seed}: {problem}")
            continue
        recording.write(path_of(name), settings, results)
        print(f"{name}: recorded with seed {seed}")
        return


def check_live(name, engine):
    settings, recorded = recording.read(path_of(name))
    assert settings == {"seed": settings["seed"], **SHARED_SETTINGS, **MODELS[name]}, "record again: other settings"
    with tempfile.TemporaryDirectory(prefix="dcs3gd-oracle-") as temporary:
        folder = Path(temporary)
        recording.write(folder / f"{name}.txt", settings, {})
        subprocess.run([engine, "write", folder / f"{name}.txt", folder / "first.safetensors"], check=True)

        first = safetensors_file.read(folder / "first.safetensors")
        model = reference.build_model(name, settings["channels"], settings["classes"])
        expected = reference.first_state(model, settings["seed"])
        assert first.keys() == expected.keys(), first.keys() ^ expected.keys()
        for key, values in expected.items():
            np.testing.assert_array_equal(first[key], values, err_msg=key)

        truth = reference.Reference(name, settings, first)
        recording.write(folder / f"{name}.txt", settings, truth.results)
        safetensors_file.write(folder / "gradient.safetensors", truth.gradient)
        safetensors_file.write(folder / "trained.safetensors", truth.trained)
        agrees = subprocess.run([engine, "compare", folder / f"{name}.txt", folder]).returncode == 0
    for difference in recording.differences(recorded, truth.results):
        print(f"{name}: PyTorch and {path_of(name).name} differ: {difference}")
        agrees = False
    return agrees


def main(arguments):
    torch.set_num_threads(THREADS)
    match arguments:
        case ["record", *models]:
            for name in models or MODELS:
                record(name)
            return 0
        case ["live", engine, *models]:
            return 0 if all([check_live(name, engine) for name in models or MODELS]) else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
