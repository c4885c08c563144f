#!/usr/bin/python3
"""Trains small networks under every update rule and compares the bits of their models and metrics with recorded ones.

    trajectories_test.py PROGRAM MPIRUN                     compares with trajectories.json (exit code 77: no recording
                                                            for this kind of machine)
    trajectories_test.py PROGRAM MPIRUN --record            records this machine's
    trajectories_test.py PROGRAM MPIRUN --against PROGRAM   compares two programs, on any machine

A commit that says `Numerics: unchanged` passes. One that changes numbers on purpose records anew and says which.
"""

import argparse
import concurrent.futures
import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import processes

RECORDING = pathlib.Path(__file__).with_name("trajectories.json")
EXIT_SKIPPED = 77
LIMIT_S = 300  # for one run
RUNS_AT_ONCE = 2
BIG = threading.Lock()  # VGG takes 4 GB a rank: one such run at a time
# What describes a trajectory; times do not.
KEYS = ("event", "step", "epoch", "loss", "lr", "grad_norm", "lambda", "distance_norm", "staleness_price", "top1", "top5",
        "images")

# Six steps, the last ones in a second epoch: crops, flips and the order are random, ResNets have running statistics.
# Convolutions are direct: which others are faster is a matter of timing. The ring has one order of sums on any machine.
RUN = """\
run: {epochs: 2, max_steps: 6, eval_every_epochs: 1}
model: {name: resnet20, classes: 4, convolution: direct}
data: {format: synthetic, image_size: 12, channels: 3, synthetic: {train_images: 64, eval_images: 20},
       augment: {random_crop_padding: 1, horizontal_flip: true}, loader: {threads: 1}}
algorithm: {batch_per_worker: 4, own_momentum: paper, fresh: 0}
optimizer: {lr: {base: 0.05, reference_batch: 16, warmup_epochs: 1}}
checkpoint: {every_epochs: null}
comm: {algorithm: ring}
"""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "OMPI_ALLOW_RUN_AS_ROOT": "1",
               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def cases():
    """Name -> (ranks, settings)."""
    found = {}
    grid = itertools.product(("ssgd", "s3gd", "dc_s3gd"), (1, 2, 4), ("fp32", "bf16"), (1, 2), (False, True))
    for rule, ranks, wire, parts, nesterov in grid:
        if ranks == 1 and wire == "bf16":
            continue  # nothing travels
        name = f"{rule}, {ranks} ranks, {wire}, micro_batches {parts}{', nesterov' if nesterov else ''}"
        found[name] = (ranks, {"algorithm.name": rule, "comm.wire": wire, "algorithm.micro_batches": parts,
                               "optimizer.nesterov": str(nesterov).lower()})
    for rule in ("ssgd", "s3gd", "dc_s3gd"):
        found[f"{rule}, 3 ranks of 2 workers"] = (3, {"algorithm.name": rule, "algorithm.workers_per_rank": 2,
                                                      "data.synthetic.train_images": 96})
    found["dc_s3gd, norms by tensor, clipped, λ bounded"] = (2, {
        "algorithm.lambda_norm": "tensor", "algorithm.gradient_clip_norm": 1, "algorithm.lambda_max": 50,
        "algorithm.label_smoothing": 0.1})
    family = {
        "fresh 0.75, one velocity": {"algorithm.fresh": 0.75, "algorithm.own_momentum": 0},
        "fresh 0.3, nesterov, clipped": {"algorithm.fresh": 0.3, "optimizer.nesterov": "true",
                                         "algorithm.gradient_clip_norm": 1},
        "synchronous at first": {"algorithm.overlap_from_epoch": 0.5},
        "hosts of 2 ranks": {"algorithm.worker": "host", "comm.ranks_per_host": 2},
        "bounded, to epoch 1": {"algorithm.correction_bound": 0.1, "algorithm.lambda_until_epoch": 1},
        "rank one": {"algorithm.correction": "rank_one", "algorithm.lambda": 2},
        "guarded": {"algorithm.staleness_limit": 1e-9},
    }
    for (name, settings), ranks in itertools.product(family.items(), (2, 4)):
        found[f"dc_s3gd, {ranks} ranks, {name}"] = (ranks, settings)
    networks = {"lenet5": (28, 1), "vgg11": (32, 3), "vgg11_bn": (32, 3), "resnet18": (40, 3), "resnet50": (40, 3)}
    for network, (size, channels) in networks.items():
        found[f"{network}, 2 ranks"] = (2, {"model.name": network, "data.image_size": size, "data.channels": channels,
                                            "run.max_steps": 3})
    found["resnet20 in bf16, 2 ranks"] = (2, {"model.precision": "bf16"})
    return found


def hashes(program, mpirun, ranks, settings):
    """The bits of a run: of its model, its best model, and its metrics without the times. None: not on this machine."""
    with tempfile.TemporaryDirectory(prefix="dcs3gd-numerics-") as folder:
        folder = pathlib.Path(folder)
        (folder / "run.yaml").write_text(RUN, encoding="utf-8")
        command = [program, "--config", "run.yaml"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        if ranks > 1:
            command = [*processes.mpirun(mpirun, ranks), *command]
        with BIG if settings.get("model.name", "").startswith("vgg") else contextlib.nullcontext():
            done = subprocess.run(command, cwd=folder, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode == 2 and settings.get("model.precision") == "bf16":
            return None
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        run = folder / "runs/run"
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        kept = [{key: event[key] for key in KEYS if key in event} for event in events
                if event["event"] in ("step", "eval")]
        return {"model": tensor_hash(run / "model.safetensors"), "best": tensor_hash(run / "best.safetensors"),
                "metrics": hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]}


def tensor_hash(path):
    """Of names, shapes and bits of the tensors; notes in the header (__metadata__) are not numbers."""
    content = path.read_bytes()
    header_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + header_bytes])
    header.pop("__metadata__", None)
    digest = hashlib.sha256()
    for name, tensor in sorted(header.items()):
        first, last = tensor["data_offsets"]
        digest.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
        digest.update(content[8 + header_bytes + first:8 + header_bytes + last])
    return digest.hexdigest()[:16]


def machine():
    """What rounding depends on: the processor with its caches, for which oneDNN generates code, and its libraries."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    caches = [pathlib.Path(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size") for index in (0, 2)]
    sizes = "/".join(path.read_text(encoding="utf-8").strip() if path.exists() else "?" for path in caches)
    libc = ctypes.CDLL(None).gnu_get_libc_version
    libc.restype = ctypes.c_char_p
    kind = " ".join(facts.get(name, "?") for name in ("vendor_id", "cpu family", "model"))
    return f"{kind}, caches {sizes}, glibc {libc().decode()}, oneDNN {onednn_version()}"


def onednn_version():
    class Version(ctypes.Structure):
        _fields_ = [(name, ctypes.c_int) for name in ("major", "minor", "patch")]

    for name in ("libdnnl.so.3", "libdnnl.so.2"):
        try:
            version = ctypes.CDLL(name).dnnl_version
        except OSError:
            continue
        version.restype = ctypes.POINTER(Version)
        found = version().contents
        return f"{found.major}.{found.minor}.{found.patch}"
    return "?"


def all_hashes(program, mpirun):
    with concurrent.futures.ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
        pending = {name: pool.submit(hashes, program, mpirun, *case) for name, case in cases().items()}
        return {name: future.result() for name, future in pending.items()}


def recordings():
    return json.loads(RECORDING.read_text(encoding="utf-8")) if RECORDING.exists() else {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("mpirun")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--against", type=pathlib.Path)
    arguments = parser.parse_args()
    here = machine()
    if arguments.against:
        expected = all_hashes(arguments.against.resolve(), arguments.mpirun)
    elif not arguments.record:
        expected = recordings().get(here)
        if expected is None:
            print(f"skipped: no recording for this machine ({here}); compare two programs with --against")
            return EXIT_SKIPPED
    found = all_hashes(arguments.program.resolve(), arguments.mpirun)
    if arguments.record:
        RECORDING.write_text(json.dumps({**recordings(), here: found}, indent=1, ensure_ascii=False) + "\n",
                             encoding="utf-8")
        print(f"recorded {len(found)} trajectories of {here}")
        return 0
    failures = 0
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            failures += 1
            print(f"{name}:\n  expected {expected.get(name)}\n  found    {found.get(name)}")
    print(f"{len(found) - failures} of {len(found)} trajectories have the same bits")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
