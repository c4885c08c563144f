"""Processes that tests start, wait for and end."""

import functools
import os
import pathlib
import shlex
import signal
import subprocess
import time

TIMEOUT_S = 120  # generous: the machine may be busy


@functools.cache
def is_open_mpi(launcher):
    return "open-mpi.org" in subprocess.run([launcher, "--version"], capture_output=True, text=True, check=True).stdout


def mpirun(launcher, ranks):
    """The head of a command for so many ranks, more than there are cores: of Open MPI's mpirun, or MPICH's, which counts none."""
    return [launcher, *(["--oversubscribe", "--bind-to", "none"] if is_open_mpi(launcher) else []), "-n", str(ranks)]


def line_of_each_rank(*lines):
    """What mpirun is to start where every rank has a command line of its own. Open MPI 5.0.7 crashes on mpirun A : B."""
    cases = " ".join(f"{rank}) exec {shlex.join(map(str, line))};;" for rank, line in enumerate(lines))
    return ["sh", "-c", f"case ${{OMPI_COMM_WORLD_RANK-$PMI_RANK}} in {cases} esac"]


def kill_group(process):
    """Ends a process that was started in a session of its own, and all it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def wait_until(condition, seconds=TIMEOUT_S):
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def processes_with(marker, program=None, place="cmdline"):
    """The ids of all processes with the marker in their command line, zombies left out; only those that run `program`,
    if one is named."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line, text = (entry / "cmdline").read_bytes(), (entry / place).read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if marker.encode() in text and program in (None, line.split(b"\0")[0].decode(errors="replace")):
            found.append(int(entry.name))
    return found


def processes_with_environment(marker, program=None):
    """The same for a marker in their environment."""
    return processes_with(marker, program, "environ")
