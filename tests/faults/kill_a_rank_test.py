#!/usr/bin/python3
"""A run on several ranks, one of which gets a signal at a random moment, again and again; each time the same command is
started again. The final and the best weights and the steps are those of a run that nobody disturbed, bit for bit.

    kill_a_rank_test.py PROGRAM MPIRUN KILL|TERM [--ranks N] [--hits N] [--seed N]
"""

import argparse
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import mpirun

START_S = 1.5  # a hit while the job starts comes within this time
MOST_STEPS = 120  # any other after so many steps of the launch, at most
LIMIT_S = 120  # for anything
LINGER_S = 10  # mpirun, after all of its ranks have ended
EXIT_STOPPED = 75

# ResNet-20 has running statistics; crops and shuffling are random.
RUN = """\
run: {epochs: EPOCHS, eval_every_epochs: 10}
model: {name: resnet20, classes: 4}
data: {format: synthetic, image_size: 8, channels: 1, synthetic: {train_images: 160, eval_images: 20},
       augment: {random_crop_padding: 1, horizontal_flip: true}, loader: {threads: 1}}
algorithm: {name: dc_s3gd, batch_per_worker: 2}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 1}}
checkpoint: {every_epochs: 2}
"""
EPOCHS_PER_HIT = 8  # 160 steps of four ranks
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "OMPI_ALLOW_RUN_AS_ROOT": "1",
               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def start(options, folder, name):
    command = [*mpirun(options.mpirun, options.ranks), options.program, "--config", "run.yaml", "--set", f"run.name={name}"]
    with open(folder / f"{name}.txt", "a", encoding="utf-8") as out:
        return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out,
                                stderr=subprocess.STDOUT, start_new_session=True)


def ranks_of(job):
    """The process ids of the ranks that are up: mpirun's children."""
    try:
        children = pathlib.Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(pid) for pid in children.split()]


def metrics(folder, name):
    path = folder / f"runs/{name}/metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def metrics_starts(folder):
    return [event["resumed_from"] for event in metrics(folder, "hit") if event["event"] == "start"]


def steps_of(folder, name):
    keys = ("step", "epoch", "loss", "lr", "grad_norm", "lambda", "distance_norm")
    return [[event[key] for key in keys] for event in metrics(folder, name) if event["event"] == "step"]


def newest_step(folder, name):
    """The step of the last whole line that has one."""
    try:
        with open(folder / f"runs/{name}/metrics.jsonl", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            found = re.findall(rb'"event":"step","step":(\d+)', file.read())
    except FileNotFoundError:
        return 0
    return int(found[-1]) if found else 0


def wait_for_moment(job, folder, rng):
    """A random moment of the start, or of the steps, whatever the speed of the machine."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, START_S))
        return
    is_up = len(metrics_starts(folder))
    while job.poll() is None and len(metrics_starts(folder)) == is_up:
        time.sleep(0.02)
    target = newest_step(folder, "hit") + rng.randint(0, MOST_STEPS)
    while job.poll() is None and newest_step(folder, "hit") < target:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.02))


def has_ended(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for_end(job):
    """The exit code of the job. Open MPI 4.1's mpirun may hang when a rank dies within its first milliseconds, while
    the ranks connect to it: no rank is left then, and mpirun is ended here."""
    limit = time.monotonic() + LIMIT_S
    last_life = time.monotonic()
    while job.poll() is None:
        now = time.monotonic()
        if now > limit:
            raise TimeoutError(f"the job did not end within {LIMIT_S} s; still up: {ranks_of(job)}")
        if not all(has_ended(pid) for pid in ranks_of(job)):
            last_life = now
        elif now - last_life > LINGER_S:
            print("mpirun hangs after its ranks have ended", flush=True)
            job.kill()
        time.sleep(0.01)
    return 128 - job.returncode if job.returncode < 0 else job.returncode


def hit(options, folder, number, rng):
    """Starts the job and hits a random rank; the exit code of the job."""
    job = start(options, folder, "hit")
    wait_for_moment(job, folder, rng)
    ranks = ranks_of(job)
    while not ranks and job.poll() is None:
        time.sleep(0.01)
        ranks = ranks_of(job)
    if job.poll() is None:
        os.kill(rng.choice(ranks), number)
    return wait_for_end(job)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("mpirun")
    parser.add_argument("signal", choices=("KILL", "TERM"))
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--hits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    number = getattr(signal, f"SIG{options.signal}")
    print(f"seed {options.seed}", flush=True)
    rng = random.Random(options.seed)
    epochs = EPOCHS_PER_HIT * options.hits
    steps_in_all = epochs * (160 // (2 * options.ranks))
    problems = []
    with tempfile.TemporaryDirectory(prefix="dcs3gd-faults-") as temporary:
        folder = pathlib.Path(temporary)
        (folder / "run.yaml").write_text(RUN.replace("EPOCHS", str(epochs)), encoding="utf-8")
        hits = []
        while len(hits) < options.hits:
            hits.append(hit(options, folder, number, rng))
            ends = [event for event in metrics(folder, "hit") if event["event"] == "end"]
            steps = steps_of(folder, "hit")
            print(f"hit {len(hits)}: exit code {hits[-1]}, {steps[-1][0] if steps else 0} steps", flush=True)
            if hits[-1] == 0:
                problems.append("the run ended before it was hit often enough")
                break
            if number == signal.SIGTERM and hits[-1] == EXIT_STOPPED and ends[-1]["status"] != "stopped":
                problems.append(f"exit code 75 without an end: {ends[-1]}")
        resumed = metrics_starts(folder)
        print(f"went on from {resumed}", flush=True)
        if sum(1 for step in resumed if step) < options.hits // 4:
            problems.append("hardly any launch went on from a checkpoint")
        if number == signal.SIGTERM and hits.count(EXIT_STOPPED) < options.hits // 4:
            problems.append(f"hardly any launch ended after a checkpoint: {hits}")
        for name in ("hit", "whole"):
            job = start(options, folder, name)
            if wait_for_end(job) != 0:
                problems.append((folder / f"{name}.txt").read_text(encoding="utf-8")[-2000:])
        for weights in ("model.safetensors", "best.safetensors"):
            hit_file, whole_file = (folder / f"runs/{name}/{weights}" for name in ("hit", "whole"))
            if hit_file.read_bytes() != whole_file.read_bytes():
                problems.append(f"{weights} differs")
        if steps_of(folder, "hit") != steps_of(folder, "whole") or len(steps_of(folder, "whole")) != steps_in_all:
            problems.append("the steps differ")
    for problem in problems:
        print(f"FAILED: {problem}", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
