#!/usr/bin/python3
"""A run that dies (SIGKILL) before, or within, its k-th call that changes its folder, for every k: the same command ends
with the weights, the best weights and the metrics of a run that nobody disturbed, bit for bit, and leaves no half files.

    crash_points_test.py PROGRAM MPIRUN SHIM [all]

Alone every third k of either kind, on two ranks some of either rank; with `all` each one. SHIM is storage_faults.cpp as a
library.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import line_of_each_rank, mpirun

LIMIT_S = 120
KINDS = ("before", "within")

# Checkpoints of steps 4, 8, … 16, of which two are kept, or three after a death after the last one.
RUN = """\
run: {epochs: 2, name: run}
model: {name: resnet20, classes: 2, convolution: direct}
data: {format: synthetic, image_size: 8, channels: 1, synthetic: {train_images: 64, eval_images: 20},
       augment: {random_crop_padding: 1, horizontal_flip: true}}
algorithm: {name: dc_s3gd, batch_per_worker: BATCH}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 0}}
checkpoint: {every_epochs: null, every_steps: 4, keep: 2}
"""
NOT_TIMES = ("step", "epoch", "loss", "lr", "grad_norm", "lambda", "distance_norm", "top1", "top5", "images")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "OMPI_ALLOW_RUN_AS_ROOT": "1",
               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


class Case:
    """Runs of one kind: alone, or on two ranks of which one dies."""

    def __init__(self, folder, program, mpirun, shim, victim):
        self.folder, self.program, self.mpirun, self.shim, self.victim = folder, program, mpirun, shim, victim
        (folder / "run.yaml").write_text(RUN.replace("BATCH", "8" if victim is None else "4"), encoding="utf-8")
        self.sound = self.result(self.run(folder / "sound"))

    def run(self, folder, fault=None):
        """In the folder; the exit code and the folder."""
        folder.mkdir(exist_ok=True)
        line = [self.program, "--config", str(self.folder / "run.yaml")]
        crash = [f"LD_PRELOAD={self.shim}", f"STORAGE_FAULT={fault} runs/run"] if fault else []
        if self.victim is None:
            command = ["/usr/bin/env", *crash, *line]
        else:
            ranks = [["env", *(crash if rank == self.victim else []), *line] for rank in range(2)]
            command = [*mpirun(self.mpirun, 2), *line_of_each_rank(*ranks)]
        with open(folder / "console.txt", "a", encoding="utf-8") as out:
            process = subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False)
        return process.returncode, folder

    def result(self, end):
        """What the run has to show; what is wrong with its end."""
        code, folder = end
        run = folder / "runs/run"
        if code != 0:
            return f"exit code {code}: " + (folder / "console.txt").read_text(encoding="utf-8")[-1500:]
        left = [str(path) for path in run.rglob("*.tmp*")]
        if left:
            return f"left behind: {left}"
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return ([(run / name).read_bytes() for name in ("model.safetensors", "best.safetensors")],
                [[line.get(key) for key in NOT_TIMES] for line in lines if line["event"] in ("step", "eval")],
                sorted(path.name for path in (run / "checkpoints").iterdir())[-2:])

    def crash(self, kind, k):
        """None when the run has fewer calls, else what is wrong: "" if nothing is."""
        folder = self.folder / f"{kind}-{k}"
        code, _ = self.run(folder, f"{kind} {k}")
        if code == 0:
            return None
        problem = ""
        if code not in (-signal.SIGKILL, 128 + signal.SIGKILL):
            problem = f"did not die but ended with {code}"
        else:
            result = self.result(self.run(folder))
            if result != self.sound:
                problem = result if isinstance(result, str) else "weights, metrics or checkpoints differ"
        shutil.rmtree(folder)
        return problem and f"{kind} call {k}, rank {self.victim}: {problem}"


def enumerate_points(case, stride, workers):
    """How many points were tried, and the problems."""
    tried, problems = 0, []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for number, kind in enumerate(KINDS):
            first = 1 + number * stride // 2
            while True:
                points = range(first, first + 8 * stride, stride)
                results = list(pool.map(case.crash, [kind] * len(points), points))
                tried += sum(result is not None for result in results)
                problems += filter(None, results)
                if None in results:
                    break
                first += 8 * stride
    return tried, problems


def main():
    program, mpirun, shim = (str(pathlib.Path(path).resolve()) if "/" in path else path for path in sys.argv[1:4])
    every = sys.argv[4:] == ["all"]
    cores = len(os.sched_getaffinity(0))
    problems = []
    with tempfile.TemporaryDirectory(prefix="dcs3gd-crashes-") as temporary:
        for victim, stride in ((None, 3), (0, 24), (1, 8)):
            folder = pathlib.Path(temporary) / f"victim-{victim}"
            folder.mkdir()
            case = Case(folder, program, mpirun, shim, victim)
            if isinstance(case.sound, str):
                problems.append(case.sound)
                continue
            tried, found = enumerate_points(case, 1 if every else stride, cores)
            print(f"{'alone' if victim is None else f'rank {victim} of 2'}: {tried} deaths, {len(found)} problems", flush=True)
            problems += found if tried > 3 else ["hardly any call was counted"]
    for problem in problems:
        print(f"FAILED: {problem}", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
