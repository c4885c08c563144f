#!/usr/bin/python3
"""Ranks die inside a job whose MPI can live on without them (ULFM): the others go on in the same processes.

    regroup_test.py MPIRUN TRAINER

Of four ranks rank 0 is killed, then another while the rest recovers, then one more: the job ends by itself, well, and
says whom it lost. What each loss costs is printed. Exit code 77, with the reason, where MPI cannot.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import TIMEOUT_S, kill_group, processes_with_environment, wait_until

RANKS = 4
SKIPPED = 77
LOSS_LIMIT_S = 30  # for the test, on a busy machine; tests/README.md has what was measured
SETTINGS = ["run.epochs=20", "checkpoint.every_steps=20", "checkpoint.every_epochs=null", "run.eval_every_epochs=0",
            "run.threads=1", "data.loader.threads=0"]


def environment_of(process):
    text = pathlib.Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


class Run:
    def __init__(self, mpirun, trainer, folder):
        self.folder, self.trainer, self.mark = folder, trainer, f"DCS3GD_TEST_JOB={folder.name}"
        sets = [word for setting in [*SETTINGS, f"run.output_dir={folder}"] for word in ("--set", setting)]
        environment = {**os.environ, "DCS3GD_TEST_JOB": folder.name, "OMP_WAIT_POLICY": "passive"}
        with open(folder / "console.txt", "w", encoding="utf-8") as out:
            self.job = subprocess.Popen([mpirun, "--with-ft", "ulfm", "-n", str(RANKS), "--oversubscribe", "--bind-to",
                                         "none", trainer, "--config", "tiny.yaml", *sets], stdin=subprocess.DEVNULL,
                                        stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment)

    def console(self):
        return (self.folder / "console.txt").read_text(encoding="utf-8", errors="replace")

    def events(self, kind):
        try:
            text = (self.folder / "tiny/metrics.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        events = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [event for event in events if event["event"] == kind]

    def wait(self, condition, what):
        if not wait_until(lambda: condition() or self.job.poll() is not None, 4 * TIMEOUT_S) or not condition():
            raise AssertionError(f"{what} did not come:\n{self.console()[-4000:]}")

    def kill(self, rank):
        for process in processes_with_environment(self.mark, self.trainer):
            if environment_of(process).get("OMPI_COMM_WORLD_RANK") == str(rank):
                os.kill(process, signal.SIGKILL)
                return
        raise AssertionError(f"there is no rank {rank}:\n{self.console()[-4000:]}")

    def has_checkpoint(self):
        return any((self.folder / "tiny/checkpoints").glob("step-*[0-9]"))

    def lose(self, *ranks):
        """Kills a rank, and others as soon as the loss was noticed; the seconds to the next step of the rest."""
        starts = len(self.events("start"))
        begin = time.monotonic()
        for number, rank in enumerate(ranks):
            if number > 0:
                self.wait(lambda: f"rank {ranks[0]} on " in self.console(), f"the loss of rank {ranks[0]}")
            self.kill(rank)
        self.wait(lambda: len(self.events("start")) > starts, "a new start")
        began_at = self.events("start")[-1].get("resumed_from") or 0
        self.wait(lambda: self.events("step") and self.events("step")[-1]["step"] > began_at, "the next step")
        return time.monotonic() - begin


def main():
    mpirun, trainer = sys.argv[1:]
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"Open MPI\)? (\d+)", version)
    if not number or int(number[1]) < 5:
        print(f"skipped: this MPI has no ULFM: {version.splitlines()[0] if version else 'unknown'}")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="dcs3gd-regroup-") as folder:
        run = Run(mpirun, trainer, pathlib.Path(folder))
        try:
            for ranks in ((0,), (2, 1)):
                run.wait(run.has_checkpoint, "a checkpoint")
                seconds = run.lose(*ranks)
                print(f"rank {' and '.join(map(str, ranks))} lost: {seconds:.1f} s to the next step", flush=True)
                assert seconds < LOSS_LIMIT_S, run.console()[-4000:]
            run.wait(lambda: run.job.poll() is not None, "the end")
        finally:
            kill_group(run.job)
        console = run.console()
        for rank in (0, 1, 2):
            assert re.search(rf"lost: [^;]*rank {rank} on ", console), f"rank {rank} is not named:\n{console[-4000:]}"
        end = run.events("end")[-1]
        assert end["status"] == "done", end
        assert run.events("start")[-1]["ranks"] == 1, run.events("start")[-1]
        assert end["final_top1"] > 0.5, end  # chance is 0.1
        print(f"done: top-1 {100 * end['final_top1']:.1f} %; mpirun ended with {run.job.returncode}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
