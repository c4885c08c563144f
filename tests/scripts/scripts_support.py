"""What the tests of scripts/ share: scripts run in a temporary folder, and run folders as the trainer leaves them."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import TIMEOUT_S, kill_group

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


class ScriptTest(unittest.TestCase):
    """Each test has a folder of its own, the current one of the scripts it runs."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dcs3gd-scripts-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def read(self, name):
        return (self.folder / name).read_text(encoding="utf-8")

    def start(self, script, *arguments, environment=None, stdout=subprocess.PIPE):
        """In a process group of its own, which goes with the test."""
        process = subprocess.Popen(["/usr/bin/python3", "-B", SCRIPTS / script, *map(str, arguments)], cwd=self.folder,
                                   env={**os.environ, "OMP_WAIT_POLICY": "passive", **(environment or {})},
                                   stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                                   encoding="utf-8", start_new_session=True)
        self.addCleanup(kill_group, process)
        return process

    def run_script(self, script, *arguments, code=0, environment=None):
        """The script ends with this code; returns what it said on standard output and standard error."""
        process = self.start(script, *arguments, environment=environment)
        out, err = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, code, f"--- standard output\n{out}\n--- standard error\n{err}")
        return out, err

    def make_run(self, name, steps=range(1, 41), configuration="", lines=(), ranks=2, end="done"):
        """A run folder with 20 steps an epoch. `lines` go after the steps; `end` None: the run is not over."""
        events = [{"event": "start", "version": "0.1.0", "command": "dcs3gd-train", "hosts": ["a"] * ranks,
                   "config_hash": "00", "ranks": ranks, "workers": ranks, "threads": 1, "isa": "avx2",
                   "parameters": 1000, "fresh_share": 0.0, "all_reduce_bytes": 4000, "resumed_from": None}]
        for step in steps:
            events.append(self.step_event(step, ranks))
            if step % 20 == 0:
                events.append({"event": "eval", "step": step, "epoch": step // 20, "top1": step / 100,
                               "top5": step / 50, "loss": 1 / step, "images": 100})
        events += lines
        if end:
            events.append({"event": "end", "status": end, "exit_code": 3 if end == "diverged" else 0,
                           "best_top1": 0.4, "final_top1": 0.4, "wall_s": 4.5, "images_per_s": 640.0})
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in events)
        self.write(f"{name}/metrics.jsonl", text)
        self.write(f"{name}/config.yaml", "run: {name: " + pathlib.Path(name).name + ", epochs: 2}\n"
                   "algorithm: {name: dc_s3gd, batch_per_worker: 16}\n" + configuration)
        return self.folder / name

    @staticmethod
    def step_event(step, ranks=2, **changes):
        return {"event": "step", "step": step, "epoch": (step + 19) // 20, "loss": 2.5 / step, "lr": 0.1,
                "grad_norm": 1.0, "lambda": 0.3 * step, "distance_norm": 0.01, "staleness_price": 0.02,
                "staleness_sharpness": 0.1, "images_per_s": 640.0, "step_ms": 50.0, "compute_ms": 48.0, "all_reduce_ms": 10.0, "wait_ms": 2.0, "overlap": 0.8 if ranks > 1 else None,
                **changes}


def import_script(name):
    """A script as a module."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(SCRIPTS))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(SCRIPTS))
