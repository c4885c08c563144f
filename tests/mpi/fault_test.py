#!/usr/bin/python3
"""Whatever happens to a rank, the whole job ends in time, says why, exits with an error and leaves no process behind.

    fault_test.py MPIEXEC FAULT_PROGRAM
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import is_open_mpi, line_of_each_rank, mpirun

TIMEOUT_S = 3  # comm.timeout_s of the job
DEATH_LIMIT_S = 10  # from a death to the end of the job
STALL_LIMIT_S = TIMEOUT_S + 10  # from the last sign of life to the end of the job
STUCK_LIMIT_S = TIMEOUT_S + 20  # the same, where only the process itself can end a call of MPI that never returns
START_LIMIT_S = 60
ANY_ERROR = range(-64, 256)

# title, algorithm, what rank 1 does, signal, whom it hits, limit, exit codes, what standard error must say
CASES = [
    ("rank 1 throws", "ring", "throw", None, None, DEATH_LIMIT_S, [3], "the loss is not finite"),
    ("rank 1 throws past its communicator", "ring", "unwind", None, None, DEATH_LIMIT_S, [1],
     "an exception ended this rank"),
    ("rank 1 leaves without a word", "ring", "exit", None, None, DEATH_LIMIT_S, ANY_ERROR, ""),
    ("rank 1 does not come", "ring", "absent", None, None, STALL_LIMIT_S, [1], "rank 1 on"),
    ("a rank is killed", "ring", "none", signal.SIGKILL, "rank", DEATH_LIMIT_S, ANY_ERROR, ""),
    ("a rank is stopped", "ring", "none", signal.SIGSTOP, "rank", STALL_LIMIT_S, [1], "no progress for"),
    ("a rank is stopped, the others are inside MPI_Allreduce", "mpi", "none", signal.SIGSTOP, "rank", STUCK_LIMIT_S,
     [1], "no sign of life"),
    ("rank 1 throws, memory is shared", "shared", "throw", None, None, DEATH_LIMIT_S, [3], "the loss is not finite"),
    ("a rank is killed, memory is shared", "shared", "none", signal.SIGKILL, "rank", DEATH_LIMIT_S, ANY_ERROR, ""),
    ("a rank is stopped, memory is shared", "shared", "none", signal.SIGSTOP, "rank", STALL_LIMIT_S, [1],
     "nothing comes from rank"),
    ("mpirun is killed", "ring", "none", signal.SIGKILL, "launcher", DEATH_LIMIT_S, [-signal.SIGKILL], ""),
]


def alive(pid):
    """A zombie that nobody has reaped yet is dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def start(mpiexec, program, ranks, algorithm, fault, errors):
    """Returns the job and the process ids of its ranks, as far as they came up."""
    job = subprocess.Popen([*mpirun(mpiexec, ranks), program, algorithm, fault, str(TIMEOUT_S)], stdout=subprocess.PIPE,
                           stderr=errors, text=True)
    pids = []
    deadline = time.monotonic() + START_LIMIT_S
    while len(pids) < ranks and time.monotonic() < deadline:
        line = job.stdout.readline()
        if not line:
            break
        if line.startswith("pid "):
            pids.append(int(line.split()[1]))
    return job, pids


def wait_for_end(job, pids, limit_s):
    """Whether the launcher and all ranks are gone within the limit; whatever is left is killed."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if job.poll() is not None and not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    for pid in pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    job.kill()
    return False


def check(mpiexec, program, ranks, case):
    """Returns what is wrong with the end of this job."""
    _, algorithm, fault, harm, victim, limit_s, exit_codes, expected = case
    with tempfile.TemporaryFile("w+") as errors:
        job, pids = start(mpiexec, program, ranks, algorithm, fault, errors)
        if len(pids) == ranks and harm is not None:
            time.sleep(0.5)  # let it get into the middle of things
            os.kill(job.pid if victim == "launcher" else max(pids), harm)
        start_s = time.monotonic()
        ended = wait_for_end(job, pids, limit_s)
        elapsed_s = time.monotonic() - start_s
        exit_code = job.wait()
        errors.seek(0)
        text = errors.read()
    if len(pids) < ranks:
        return f"only {len(pids)} of {ranks} ranks came up: {text}"
    if not ended:
        return f"something was still running after {limit_s} s: {text}"
    # That of MPICH's mpirun is made of those of all ranks: of a killed one at times 0.
    if is_open_mpi(mpiexec) and (exit_code == 0 or exit_code not in exit_codes):
        return f"exit code {exit_code}: {text}"
    if expected not in text:
        return f"no '{expected}' in: {text}"
    if left := [name for name in os.listdir("/dev/shm") if "dcs3gd" in name]:
        return f"left in /dev/shm: {left}"
    print(f"  ended after {elapsed_s:.1f} s with {exit_code}", flush=True)
    return ""


def check_suspension(mpiexec, program, ranks, victims, sleep_s, expected):
    """What stands still and is continued goes on: the whole job for any time, a single rank within the time-out."""
    with tempfile.TemporaryFile("w+") as errors:
        job, pids = start(mpiexec, program, ranks, "ring", "none", errors)
        time.sleep(0.5)
        stopped = sorted(pids)[-victims:]
        for number, pause_s in ((signal.SIGSTOP, sleep_s), (signal.SIGCONT, 2)):
            for pid in stopped:
                os.kill(pid, number)
            time.sleep(pause_s)
        still_there = job.poll() is None and len(pids) == ranks and all(alive(pid) for pid in pids)
        job.terminate()
        wait_for_end(job, pids, DEATH_LIMIT_S)
        job.wait()
        errors.seek(0)
        text = errors.read()
    missing = [words for words in expected if words not in text]
    return "" if still_there and not missing else f"still there: {still_there}, no {missing} in: {text}"


def check_missing_process(mpiexec, program):
    """A process that never comes to MPI_Init must not keep the others for ever."""
    lines = line_of_each_rank([program, "ring", "none", TIMEOUT_S], ["sleep", "300"])
    job = subprocess.run([*mpirun(mpiexec, 2), *lines], capture_output=True, text=True, timeout=60, check=False)
    if job.returncode != 1 or "MPI has not started after 3 s" not in job.stderr:
        return f"exit code {job.returncode}: {job.stderr}"
    return ""


def check_foreign_launcher(program):
    """N processes of a launcher that our MPI does not know would each be alone: refused."""
    environment = {**os.environ, "PMI_SIZE": "2", "PMI_RANK": "0"}
    job = subprocess.run([program, "ring", "throw", "3"], env=environment, capture_output=True, text=True, timeout=60,
                         check=False)
    if job.returncode != 2 or "started 2 processes (PMI_SIZE)" not in job.stderr:
        return f"exit code {job.returncode}: {job.stderr}"
    return ""


def main():
    mpiexec, program = sys.argv[1:]
    findings = []
    print("a foreign launcher", flush=True)
    findings.append(check_foreign_launcher(program))
    for title, ranks, victims, sleep_s, expected in (
            ("a rank stands still for a while", 2, 1, 2, ["no progress for", "rank 1 on", "goes on after"]),
            ("all stand still for longer than the time-out", 3, 3, 3 * TIMEOUT_S, [])):
        print(title, flush=True)
        findings.append(check_suspension(mpiexec, program, ranks, victims, sleep_s, expected))
    print("a process that does not start MPI", flush=True)
    findings.append(check_missing_process(mpiexec, program))
    for finding in findings:
        if finding:
            print(f"  FAILED: {finding}", flush=True)
    for ranks in (2, 3, 4):
        for case in CASES:
            print(f"{ranks} ranks: {case[0]}", flush=True)
            findings.append(check(mpiexec, program, ranks, case))
            if findings[-1]:
                print(f"  FAILED: {findings[-1]}", flush=True)
    return 1 if any(findings) else 0


if __name__ == "__main__":
    sys.exit(main())
