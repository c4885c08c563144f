#!/usr/bin/python3
"""scripts/train_slurm.sbatch under a real Slurm, with daemons of its own on this machine: what a job lives through.

    slurm_test.py PROGRAM SBATCH_SCRIPT

Exit code 77, with the reason, without root or Slurm.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import TIMEOUT_S, processes_with, wait_until

SKIPPED = 77
DEATH_LIMIT_S = 30
RANKS = 2

# cred_expire: so long a job that queues again waits.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost=HOST
SlurmctldPort=CONTROL_PORT
SlurmdPort=NODE_PORT
AuthType=auth/munge
AuthInfo=socket=FOLDER/munge.socket,cred_expire=5
SlurmUser=root
StateSaveLocation=FOLDER/state
SlurmdSpoolDir=FOLDER/spool
SlurmctldPidFile=FOLDER/slurmctld.pid
SlurmdPidFile=FOLDER/slurmd.pid
SlurmctldLogFile=FOLDER/slurmctld.log
SlurmdLogFile=FOLDER/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SwitchType=switch/none
MailProg=/bin/true
ReturnToService=2
NodeName=HOST CPUs=8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
RUN = """\
run: {epochs: 1000000, eval_every_epochs: 500, output_dir: FOLDER/runs}
model: {name: lenet5, classes: 2}
data: {format: synthetic, image_size: 16, channels: 1, synthetic: {train_images: 64, eval_images: 20}}
algorithm: {name: dc_s3gd, batch_per_worker: 8}
optimizer: {lr: {base: 0.001, reference_batch: 8, warmup_epochs: 0}}
checkpoint: {every_epochs: 50}
"""


def free_port():
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


class Slurm:
    """munged, slurmctld and slurmd in the foreground, with files in a folder."""

    def __init__(self, folder):
        host = socket.gethostname().split(".")[0]
        text = SLURM_CONF.replace("HOST", host).replace("FOLDER", str(folder))
        text = text.replace("CONTROL_PORT", str(free_port())).replace("NODE_PORT", str(free_port()))
        (folder / "slurm.conf").write_text(text, encoding="utf-8")
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        files = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "log", "pid", "seed")]
        self.daemons = []
        with open(folder / "daemons.txt", "w", encoding="utf-8") as out:
            for command in (["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files],
                            ["slurmctld", "-D", "-i"], ["slurmd", "-D"]):
                self.daemons.append(subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL))
                if command[0] == "munged" and not wait_until((folder / "munge.socket").exists, 20):
                    break

    def is_up(self):
        return wait_until(lambda: run("sinfo", "-h", "-o", "%T").stdout.strip() == "idle", 60)

    def end(self):
        run("scancel", "--state=RUNNING", "--signal=KILL", "--full")
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options)


class SlurmTest(unittest.TestCase):
    folder = program = script = None

    def setUp(self):
        self.name = self.id().rpartition(".")[2]
        self.job = None
        self.addCleanup(self.cancel)

    def submit(self, *options, settings=()):
        arguments = [word for setting in (f"run.name={self.name}", *settings) for word in ("--set", setting)]
        environment = {**os.environ, "DCS3GD_TRAIN": self.program, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        result = run("sbatch", "--parsable", f"--ntasks={RANKS}", f"--output={self.folder}/{self.name}.txt", *options,
                     self.script, "--config", str(self.folder / "run.yaml"), *arguments, env=environment, cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.job = result.stdout.strip()

    def cancel(self):
        if self.job:
            run("scancel", "--signal=KILL", "--full", self.job)
            run("scancel", self.job)
            wait_until(lambda: not self.ranks() and self.field("JobState") not in ("RUNNING", "COMPLETING"), 60)

    def field(self, name):
        found = re.search(rf"\b{name}=(\S+)", run("scontrol", "show", "job", self.job).stdout)
        return found[1] if found else ""

    def events(self, kind):
        path = self.folder / f"runs/{self.name}/metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [event for event in map(json.loads, filter(lambda line: line.endswith("}"), lines)) if event["event"] == kind]

    def said(self):
        path = self.folder / f"{self.name}.txt"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def ranks(self):
        return processes_with(f"run.name={self.name}", self.program)

    def await_steps(self, starts=1):
        """Steps and a checkpoint after so many starts."""
        def has():
            return len(self.events("start")) == starts and self.events("checkpoint") and self.events("step") and \
                self.events("step")[-1]["step"] > (self.events("start")[-1]["resumed_from"] or 0)

        self.assertTrue(wait_until(has), self.said()[-3000:])

    def assert_continues(self):
        """The job queues again, and goes on exactly where it stopped."""
        self.await_steps(starts=2)
        self.assertEqual([event["status"] for event in self.events("end")], ["stopped"])
        self.assertIsNotNone(self.events("start")[1]["resumed_from"])
        self.assertIn("exactly", self.said())
        self.assertEqual(self.field("Restarts"), "1")
        steps = [event["step"] for event in self.events("step")]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))

    def test_usr1(self):
        self.submit("--time=60")
        self.await_steps()
        run("scancel", "--signal=USR1", self.job)
        self.assert_continues()
        run("scancel", self.job)  # ends it for good, after a checkpoint
        self.assertTrue(wait_until(lambda: self.field("JobState") == "CANCELLED"), self.field("JobState"))
        self.assertTrue(wait_until(lambda: len(self.events("end")) == 2), self.said()[-3000:])
        self.assertEqual(self.events("end")[-1]["status"], "stopped")

    def test_time_limit(self):
        self.submit("--time=2")
        self.assert_continues()

    def test_suspend_and_resume(self):
        self.submit("--time=60")
        self.await_steps()
        self.assertEqual(run("scontrol", "suspend", self.job).returncode, 0)
        self.assertTrue(wait_until(lambda: self.field("JobState") == "SUSPENDED"))
        time.sleep(2)
        before = len(self.events("step"))
        time.sleep(6)
        self.assertEqual(len(self.events("step")), before)
        self.assertEqual(run("scontrol", "resume", self.job).returncode, 0)
        self.assertTrue(wait_until(lambda: len(self.events("step")) > before + 10), self.said()[-3000:])
        self.assertEqual(self.events("end"), [])

    def test_killed_rank(self):
        self.submit("--time=60")
        self.await_steps()
        os.kill(max(self.ranks()), signal.SIGKILL)
        began_s = time.monotonic()
        self.assertTrue(wait_until(lambda: not self.ranks() and self.field("JobState") == "FAILED", DEATH_LIMIT_S),
                        self.said()[-3000:])
        print(f"a killed rank ended the job after {time.monotonic() - began_s:.1f} s", flush=True)
        self.submit("--time=60")  # the same command
        self.await_steps(starts=2)


def main():
    SlurmTest.program, SlurmTest.script = (str(pathlib.Path(path).resolve()) for path in sys.argv[1:3])
    del sys.argv[1:3]
    for program in ("munged", "slurmctld", "slurmd", "srun"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            print(f"skipped: no {program}; scripts/setup.sh --test installs it")
            return SKIPPED
    os.environ["PATH"] += ":/usr/sbin"
    if os.geteuid() != 0:
        print("skipped: Slurm's daemons need root")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="dcs3gd-slurm-") as temporary:
        SlurmTest.folder = pathlib.Path(temporary)
        (SlurmTest.folder / "run.yaml").write_text(RUN.replace("FOLDER", temporary), encoding="utf-8")
        slurm = Slurm(SlurmTest.folder)
        try:
            if not slurm.is_up():
                logs = [path.read_text(encoding="utf-8")[-1500:] for path in sorted(SlurmTest.folder.glob("*.log"))]
                print("skipped: Slurm does not come up here\n" + "\n".join(logs))
                return SKIPPED
            return 0 if unittest.main(exit=False, verbosity=2).result.wasSuccessful() else 1
        finally:
            slurm.end()


if __name__ == "__main__":
    sys.exit(main())
