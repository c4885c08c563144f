#!/usr/bin/python3
"""Stands for dcs3gd-train in the tests of sweep.py, where runs must stop, fail and diverge on demand: reads --set, has
a run folder, counts its steps in a file as a checkpoint would, and answers SIGTERM with exit code 75.

Keys: fake.steps (each 10 ms), fake.quality (the accuracy it reaches), fake.fate (done, diverge, refuse, die or deaf).
A key fake.wrong is refused as a configuration, before anything starts.
"""

import json
import os
import pathlib
import signal
import sys
import time

import yaml

arguments = sys.argv[1:]
settings = dict(setting.split("=", 1) for flag, setting in zip(arguments, arguments[1:]) if flag == "--set")
settings = {key: yaml.safe_load(value) for key, value in settings.items()}
if "fake.wrong" in settings:
    print("--set fake.wrong=1: fake.wrong: unknown key. Did you mean fake.fate?", file=sys.stderr)
    sys.exit(2)
configuration = {}
for key, value in {"algorithm.batch_per_worker": 8, "run.epochs": 1, **settings}.items():
    section, name = key.split(".", 1)
    configuration.setdefault(section, {})[name] = value
if "--print-config" in arguments:
    print(yaml.safe_dump(configuration))
    sys.exit(0)

folder = pathlib.Path(settings["run.output_dir"]) / settings["run.name"]
folder.mkdir(parents=True, exist_ok=True)
checkpoint, metrics = folder / "checkpoint", folder / "metrics.jsonl"
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
(folder / "config.yaml").write_text(yaml.safe_dump(configuration))
with open(folder.parent / "starts.txt", "a", encoding="utf-8") as starts:
    starts.write(f"{settings['run.name']} {step} {os.environ['OMP_NUM_THREADS']}\n")


def write(event):
    with open(metrics, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(event) + "\n")


def end(status, code):
    event = {"event": "end", "status": status, "exit_code": code, "best_top1": settings.get("fake.quality"),
             "final_top1": settings.get("fake.quality"), "wall_s": 1.0, "images_per_s": 100.0}
    write(event)
    (folder / "summary.json").write_text(json.dumps(event))
    sys.exit(code)


def stop(_signal, _frame):
    checkpoint.write_text(str(step))
    end("stopped", 75)


fate = settings.get("fake.fate", "done")
signal.signal(signal.SIGTERM, signal.SIG_IGN if fate == "deaf" else stop)
write({"event": "start", "ranks": 1, "workers": 1, "threads": 1, "resumed_from": step or None})
while step < settings.get("fake.steps", 3):
    if fate == "refuse":
        print("error: no such data set", file=sys.stderr)
        sys.exit(2)
    if fate == "die":
        print("error: the disk is gone", file=sys.stderr)
        sys.exit(1)
    time.sleep(0.01)
    step += 1
    write({"event": "step", "step": step, "epoch": 1, "loss": 1 / step, "step_ms": 10.0, "images_per_s": 800.0})
if fate == "diverge":
    end("diverged", 3)
write({"event": "eval", "step": step, "epoch": 1, "top1": settings.get("fake.quality"), "top5": 1.0,
       "loss": 1 - settings.get("fake.quality", 0), "images": 10})
end("done", 0)
