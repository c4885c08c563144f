#!/usr/bin/python3
"""Runs dcs3gd-train under mpirun on several hosts, and goes on with those that answer whatever happens to the others.

    scripts/elastic.py --host a:2,b:2,c [OPTION]... PROGRAM ARGUMENT...

It stands where mpirun would. When the job ends too early (a rank, a host or mpirun died, or hangs), it is started again
on the hosts that answer and continues from the newest checkpoint; a host that comes back is taken in after the next
checkpoint. Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 stops the run after a checkpoint; a second one ends it at once.
scripts/README.md says what it needs.

Exit codes: 0 done, 1 gave up, 2 usage or configuration, 3 diverged, 75 stopped: run again to continue.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import yaml

EXIT_DONE, EXIT_FAILURE, EXIT_INPUT, EXIT_DIVERGED, EXIT_STOPPED = 0, 1, 2, 3, 75
PROGRAM = Path(sys.argv[0]).name  # elastic.py, or dcs3gd-elastic where it is installed
POLL_S = 0.1
BEAT_S = 1  # between two questions to a host
START_S = 120  # from mpirun's start to the first rank
LINGER_S = 10  # of an mpirun whose ranks are gone
SWEEP_S = 10  # for what a job has left behind
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5, 80  # before another try, if the last one did not get to a checkpoint
SLURM_RESERVE_S = 90  # the trainer stops so long before the end of its Slurm job
# Without these Open MPI 4.1 waits for ever for a host that lost its power, and a host that is cut off for mpirun.
KEEPALIVE = "--mca oob_tcp_keepalive_time 20 --mca oob_tcp_keepalive_intvl 10 --mca oob_tcp_keepalive_probes 3".split()


class UsageError(Exception):
    pass


def say(text):
    try:
        print(f"{PROGRAM} {time.strftime('%H:%M:%S')}: {text}", flush=True)
    except OSError:  # nobody reads any more: no reason to stop training
        pass


# --- hosts ------------------------------------------------------------------------------------------------------------


def end_all(mark):
    """The shell's line that ends every process of a run: its environment holds the mark."""
    return f"grep -lzs {mark} /proc/[0-9]*/environ | cut -d/ -f3 | xargs -r kill -9"


class Host:
    """A shell on a host, asked every second how many ranks of the run are there. A host that answers is there, whatever
    mpirun believes; the shell ends with this program, whose pipe it reads."""

    def __init__(self, name, slots, agent, mark):
        self.name, self.slots, self.mark = name, slots, mark
        is_here = name in ("localhost", socket.gethostname(), socket.gethostname().split(".")[0])
        self.command = ["bash"] if is_here else [*agent, name, "bash"]
        self.shell = None
        self.opened_s = self.asked_s = self.heard_s = -math.inf
        self.answers = False
        self.since_s = 0.0  # it answers without a gap
        self.ranks = 0
        self.rest, self.complaint = b"", ""  # what came after the last whole line; the last line that is no answer

    def tick(self, now, lost_after_s):
        if self.shell is None and now - self.opened_s >= BEAT_S:
            self.shell = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT, start_new_session=True)
            os.set_blocking(self.shell.stdout.fileno(), False)
            self.opened_s = now
        if self.shell is not None:
            self._listen(now)
        if now - self.asked_s >= BEAT_S:
            self.asked_s = now
            self._ask(f"echo ranks $(grep -lzs DCS3GD_RANK_OF={self.mark} /proc/[0-9]*/environ | wc -l)")
        if now - max(self.heard_s, self.opened_s) > lost_after_s:
            self.close()
        if self.answers and now - self.heard_s > lost_after_s:
            self.answers = False
            say(f"{self.name} does not answer" + (f": {self.complaint}" if self.complaint else ""))

    def sweep(self):
        self._ask(end_all(self.mark))
        self.asked_s = -math.inf  # the next question comes at once

    def close(self):
        if self.shell is None:
            return
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.shell.wait()
        self.shell.stdout.close()
        self.shell, self.rest = None, b""

    def _listen(self, now):
        try:
            new = os.read(self.shell.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        if not new:
            self.close()
            return
        *lines, self.rest = (self.rest + new).split(b"\n")
        for line in lines:
            words = line.decode(errors="replace").split()
            if len(words) == 2 and words[0] == "ranks" and words[1].isdigit():
                if not self.answers:
                    self.answers, self.since_s, self.complaint = True, now, ""
                    say(f"{self.name} answers")
                self.ranks, self.heard_s = int(words[1]), now
            elif words:
                self.complaint = " ".join(words)[:200]

    def _ask(self, command):
        if self.shell is None:
            return
        try:
            os.write(self.shell.stdin.fileno(), command.encode() + b"\n")
        except OSError:
            self.close()


def words_of(option, text):
    """A command line in words, of which there is one at least."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None
    if not words:
        raise UsageError(f"{option}: expected a program, found nothing")
    return words


def positive(kind):
    """For argparse: a number above 0."""
    def parse(text):
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value
    parse.__name__ = f"positive {kind.__name__}"
    return parse


def parse_hosts(text):
    """a:2,b → [("a", 2), ("b", 1)]"""
    hosts = {}
    for part in filter(None, text.replace(",", " ").split()):
        name, _, slots = part.partition(":")
        if not name or name.startswith("-") or not (slots or "1").isdigit() or int(slots or 1) < 1:
            raise UsageError(f"--host {text}: expected NAME or NAME:SLOTS, separated by commas; found '{part}'")
        hosts[name] = hosts.get(name, 0) + int(slots or 1)
    if not hosts:
        raise UsageError("--host: no host is named")
    return list(hosts.items())


# --- the run ----------------------------------------------------------------------------------------------------------


class Run:
    """What the configuration says of the run, and what its folder shows of how far it is."""

    def __init__(self, command):
        if any(argument.split("=")[0] == "--resume" for argument in command):
            raise UsageError("leave out --resume: every start after the first continues what is there")
        self.trains = not any(argument.split("=")[0] in ("--eval", "--dry-run") for argument in command)
        try:
            result = subprocess.run([*command, "--print-config"], stdin=subprocess.DEVNULL, capture_output=True,
                                    encoding="utf-8", errors="replace", check=False)
        except OSError as error:
            raise UsageError(f"{command[0]}: {error.strerror}") from None
        if result.returncode != 0:
            raise UsageError(f"{command[0]} refuses this command line:\n{(result.stderr or result.stdout).strip()}")
        try:
            values = yaml.safe_load(result.stdout)
            if "name" not in values["run"]:  # the template
                raise UsageError(f"{command[0]}: --config FILE is missing")
            self.folder = Path(values["run"]["output_dir"]) / values["run"]["name"]
            self.limit_s = 60 * (values["run"].get("time_limit_minutes") or math.inf)
            self.timeout_s = values.get("comm", {}).get("timeout_s") or 300
        except (yaml.YAMLError, TypeError, KeyError, AttributeError):
            raise UsageError(f"{command[0]} --print-config says nothing about a run; is it dcs3gd-train?") from None

    def newest_checkpoint(self):
        """Its step; 0 without one."""
        names = [path.name.removeprefix("step-") for path in self.folder.glob("checkpoints/step-*")]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def signs_of_life(self):
        """What changes while ranks are at work."""
        signs = []
        for name in ("metrics.jsonl", "log.txt", "checkpoints"):
            try:
                status = (self.folder / name).stat()
                signs.append((status.st_size, status.st_mtime_ns))
            except OSError:
                signs.append(None)
        return signs

    def is_done(self):
        """Whether it says so itself: Open MPI 5's mpirun ends with 0 when a host has lost its power."""
        if not self.trains:
            return True
        try:
            return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))["status"] == "done"
        except (OSError, ValueError, KeyError, TypeError):
            return False


class Supervisor:
    def __init__(self, options, run):
        self.options, self.run = options, run
        self.mark = uuid.uuid4().hex
        self.mpirun = words_of("--mpirun", options.mpirun)
        agent = words_of("--agent", options.agent)
        self.hosts = [Host(name, slots, agent, self.mark) for name, slots in parse_hosts(options.host)]
        self.stops = 0  # signals of the user
        self.job = None
        self.tries = 0  # in a row without a new checkpoint
        self.accepted = False  # a start got as far as the run folder
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._on_signal)

    def supervise(self):
        """The exit code."""
        try:
            while True:
                hosts = self._wait_for_hosts()
                if self.stops:
                    say("stopped while no job was up")
                    return EXIT_STOPPED
                if hosts is None:
                    return EXIT_FAILURE
                before, began_s = self.run.newest_checkpoint(), time.monotonic()
                code = self._launch(hosts)
                verdict = self._judge(code, before, time.monotonic() - began_s)
                if verdict is not None:
                    return verdict
        finally:
            self._end_job()
            for host in self.hosts:
                host.close()

    def _on_signal(self, number, _frame):
        self.stops += 1
        say(f"{signal.Signals(number).name}: " + ("the run stops after a checkpoint" if self.stops == 1 else "at once"))

    def _tick(self):
        now = time.monotonic()
        for host in self.hosts:
            host.tick(now, self.options.lost_after_s)
        time.sleep(POLL_S)
        return time.monotonic()

    def _wait_for_hosts(self):
        """All hosts, or those that answer when the others had their time; None: not enough of them answer for long."""
        began_s = now = time.monotonic()
        said = False
        while not self.stops:
            there = [host for host in self.hosts if host.answers]
            waits = [host for host in self.hosts if not host.answers and
                     now - (began_s if host.heard_s < 0 else host.heard_s) < self.options.wait_s]
            if sum(host.slots for host in there) >= self.options.min_ranks and not waits:
                return there
            if now - began_s > self.options.hosts_s:
                say(f"giving up: only {len(there)} of {len(self.hosts)} hosts answer since {now - began_s:.0f} s, "
                    f"--min-ranks is {self.options.min_ranks}")
                return None
            if not waits and not said:
                said = True
                say(f"waiting for hosts: {len(there)} of {len(self.hosts)} answer")
            now = self._tick()
        return None

    def _launch(self, hosts):
        """Runs a job on the hosts to its end, which may be ours; mpirun's exit code."""
        ranks = sum(host.slots for host in hosts)
        command = [*self.mpirun, *KEEPALIVE, "--mca", "plm_rsh_agent", self.options.agent, "-n",
                   str(ranks), "-H", ",".join(f"{host.name}:{host.slots}" for host in hosts), "-x",
                   f"DCS3GD_RANK_OF={self.mark}", *self.options.command]
        absent = [host.name for host in self.hosts if host not in hosts]
        say(f"starting {ranks} ranks on {len(hosts)} hosts" + (f", without {', '.join(absent)}" if absent else "") +
            f", from step {self.run.newest_checkpoint()}")
        signs, was_seen = self.run.signs_of_life(), False
        # If this program is killed, the ranks are told to save and end.
        self.job = subprocess.Popen(["setpriv", "--pdeathsig", "USR1", *command], stdin=subprocess.DEVNULL,
                                    env={**os.environ, "DCS3GD_JOB_OF": self.mark}, start_new_session=True)
        now = moved_s = seen_s = time.monotonic()
        stop_s, returned_at = None, None
        while self.job.poll() is None:
            now = self._tick()
            lost = [host.name for host in hosts if not host.answers]
            found = self.run.signs_of_life()
            if found != signs:
                signs, moved_s, self.accepted = found, now, True
            if any(host.ranks for host in hosts):
                was_seen, seen_s = True, now
            reason = None
            if self.stops > 1:
                reason = "a second signal"
            elif lost:
                reason = f"lost {', '.join(lost)}"
            elif now - seen_s > (LINGER_S if was_seen else START_S):
                reason = "mpirun hangs: no rank is up" + (" any more" if was_seen else "")
            elif now - moved_s > self.options.silence_s:
                reason = f"nothing was written to {self.run.folder} for {self.options.silence_s:.0f} s"
            elif stop_s is not None and now - stop_s > self.run.timeout_s + 60:
                reason = "the job does not stop"
            if reason:
                say(f"ending the job: {reason}")
                break
            back = [host.name for host in self.hosts if host not in hosts and host.answers and
                    now - host.since_s > self.options.lost_after_s]
            newest = self.run.newest_checkpoint()
            returned_at = (newest if returned_at is None else returned_at) if back else None
            is_due = back and newest > returned_at
            if stop_s is None and was_seen and (self.stops or is_due):  # mpirun is ready for signals when ranks are up
                if not self.stops:
                    say(f"checkpoint of step {newest}: stopping to take {', '.join(back)} back")
                stop_s = now
                self.job.send_signal(signal.SIGUSR1)
        code = self._end_job()
        self.accepted = self.accepted or self.run.signs_of_life() != signs
        return code

    def _end_job(self):
        """Makes sure that nothing of the job is left on this host or on one that answers; its exit code."""
        if self.job is None:
            return None
        if self.job.poll() is None:
            self.job.kill()
        code = self.job.wait()
        subprocess.run(["bash", "-c", end_all(self.mark)], stdin=subprocess.DEVNULL, check=False)
        began_s = now = time.monotonic()
        for host in self.hosts:
            host.sweep()
        while now - began_s < SWEEP_S and any(host.answers and (host.ranks or host.heard_s < began_s)
                                              for host in self.hosts):
            now = self._tick()
        self.job = None
        return 128 - code if code < 0 else code

    def _judge(self, code, before, ran_s):
        """The exit code if this was the end, or None after a pause: again."""
        at_step = self.run.newest_checkpoint()
        if code == EXIT_DONE and self.run.is_done():
            say("done")
            return EXIT_DONE
        if code == EXIT_DIVERGED or code == EXIT_INPUT and not self.accepted:
            say(f"ended with exit code {code}: " + ("diverged" if code == EXIT_DIVERGED else "usage or input"))
            return code
        if self.stops or code == EXIT_STOPPED and self._is_time_up(ran_s):
            say(f"stopped with exit code {code}; the newest checkpoint is of step {at_step}; the same command continues")
            return EXIT_STOPPED if code == EXIT_STOPPED or code > 128 else EXIT_FAILURE
        self.tries = 0 if at_step > before else self.tries + 1
        say(f"the job ended after {ran_s:.1f} s with exit code {code}; the newest checkpoint is of step {at_step}")
        if self.tries >= self.options.tries:
            say(f"giving up: {self.tries} starts in a row without a new checkpoint")
            return EXIT_FAILURE
        if self.tries > 1:
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**(self.tries - 2))
            say(f"no new checkpoint in {self.tries} starts; next one in {pause_s} s")
            end_s = time.monotonic() + pause_s
            while time.monotonic() < end_s and not self.stops:
                self._tick()
        return None

    def _is_time_up(self, ran_s):
        slurm_end = os.environ.get("SLURM_JOB_END_TIME", "")
        return ran_s >= self.run.limit_s or slurm_end.isdigit() and time.time() > int(slurm_end) - SLURM_RESERVE_S


def main():
    parser = argparse.ArgumentParser(description="Runs dcs3gd-train on several hosts, whatever happens to them.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--host", required=True, metavar="a:2,b:2,c", help="hosts and their ranks")
    parser.add_argument("--mpirun", default="mpirun --bind-to none", help="mpirun with options of your own")
    parser.add_argument("--agent", default="ssh -o BatchMode=yes -o ConnectTimeout=5", help="AGENT HOST COMMAND runs a "
                        "command on a host")
    parser.add_argument("--lost-after-s", type=positive(float), default=6, metavar="S", help="a host silent for so long is lost")
    parser.add_argument("--wait-s", type=positive(float), default=8, metavar="S", help="from a host's last answer to a start "
                        "without it")
    parser.add_argument("--hosts-s", type=positive(float), default=600, metavar="S", help="give up when so long too few hosts "
                        "answer")
    parser.add_argument("--min-ranks", type=positive(int), default=1, metavar="N", help="do not start with fewer")
    parser.add_argument("--tries", type=positive(int), default=6, metavar="N", help="give up after so many starts in a row without "
                        "a new checkpoint")
    parser.add_argument("--silence-s", type=positive(float), default=3600, metavar="S", help="a job that writes nothing into its "
                        "run folder for so long hangs")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="PROGRAM ARGUMENT...",
                        help="dcs3gd-train as under mpirun")
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        del options.command[0]
    try:
        if not options.command:
            raise UsageError("expected the program after the options: dcs3gd-train --config FILE …")
        for program in (options.command[0], words_of("--mpirun", options.mpirun)[0],
                        words_of("--agent", options.agent)[0], "setpriv"):
            if not shutil.which(program):
                raise UsageError(f"{program}: no such program")
        return Supervisor(options, Run(options.command)).supervise()
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return EXIT_INPUT


if __name__ == "__main__":
    sys.exit(main())
