"""scripts/elastic.py: runs that go on without a rank, a host or mpirun. Usage: elastic_test.py PROGRAM."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

from scripts_support import ScriptTest
from processes import TIMEOUT_S, processes_with_environment, wait_until

RUN = """\
run: {epochs: 1000000, eval_every_epochs: 50, name: run}
model: {name: lenet5, classes: 2}
data: {format: synthetic, image_size: 16, channels: 1, synthetic: {train_images: 64, eval_images: 20}}
algorithm: {name: dc_s3gd, batch_per_worker: 8}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 0}}
checkpoint: {every_epochs: 50}
"""
# As ssh would, to hosts that are this machine; one whose name stands in the folder `dead` is not there.
AGENT = """\
#!/bin/bash
host=$1; shift
[[ ! -e FOLDER/dead/$host ]] || { echo "$host: no route to host"; exit 255; }
FAKE_HOST=FOLDER/$host exec setsid bash -c "$*"
"""
PROGRAM = """\
#!/bin/bash
[[ $* != *--wrong* ]] || { echo "error: --wrong: unknown" >&2; exit 2; }
echo 'run: {output_dir: runs, name: run}'
"""
# One line of `plan` says what one start does: CHECKPOINT EXIT_CODE. Exit code hang: its rank ends, it does not; wait:
# until SIGUSR1, then 75; orphan: it dies of a signal and leaves its rank behind; gone: a host is, and it ends with 0.
MPIRUN = """\
#!/bin/bash
echo "$*" >> starts
[[ $* =~ (DCS3GD_RANK_OF=[0-9a-f]+) ]]
read -r checkpoint code < <(sed -n "$(wc -l < starts)p" plan)
mkdir -p runs/run/checkpoints/step-$checkpoint
echo x >> runs/run/metrics.jsonl
case $code in
  hang) env ${BASH_REMATCH[1]} sleep 2; sleep 1000 ;;
  wait) trap 'exit 75' USR1; env ${BASH_REMATCH[1]} sleep 1000 & wait ;;
  orphan) env ${BASH_REMATCH[1]} sleep 1000 & sleep 2; kill -9 $$ ;;
  gone) sleep 0.5 ;;
  0) sleep 0.5; echo '{"event":"end","status":"done"}' > runs/run/summary.json ;;
  *) sleep 0.5; exit $code ;;
esac
"""


class ElasticTest(ScriptTest):
    trainer = ""

    def setUp(self):
        super().setUp()
        for name, text in (("agent", AGENT.replace("FOLDER", str(self.folder))), ("program", PROGRAM),
                           ("mpirun", MPIRUN)):
            self.write(name, text).chmod(0o755)
        self.write("run.yaml", RUN)
        (self.folder / "dead").mkdir()
        self.addCleanup(self.end, str(self.folder))

    def end(self, mark, number=signal.SIGKILL):
        for pid in processes_with_environment(mark):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # one of the shell's short commands
                pass

    def arguments(self, *options, hosts="h1,h2:2", mpirun="./mpirun", command=("./program",)):
        return ["--host", hosts, "--agent", str(self.folder / "agent"), "--mpirun", mpirun, *options, *command]

    def elastic(self, plan, code, *options, **more):
        self.write("plan", "\n".join(plan) + "\n")
        out, err = self.run_script("elastic.py", *self.arguments(*options, **more), code=code)
        self.assertEqual(processes_with_environment(str(self.folder)), [], "left behind")
        return out + err, self.read("starts").splitlines() if (self.folder / "starts").exists() else []


class Ends(ElasticTest):
    def test_exit_codes(self):
        for plan, code, starts, words in ((["8 0"], 0, 1, "done"),
                                          (["8 3"], 3, 1, "diverged"),
                                          (["8 137", "16 1", "24 75", "24 2", "32 0"], 0, 5, "from step 24"),
                                          (["8 gone", "16 0"], 0, 2, "from step 8"),
                                          (["8 1", "8 1", "8 1"], 1, 3, "giving up: 2 starts in a row without")):
            with self.subTest(plan=plan):
                self.run_line("rm -rf runs starts")
                said, lines = self.elastic(plan, code, "--tries", "2")
                self.assertEqual(len(lines), starts, said)
                self.assertIn(words, said)
                self.assertIn("-n 3 -H h1:1,h2:2", lines[0])
                self.assertIn("oob_tcp_keepalive_time 20", lines[0])

    def run_line(self, line):
        self.assertEqual(os.system(f"cd {self.folder} && {line}"), 0)

    def test_mistakes_start_nothing(self):
        self.write("no_script", "\0").chmod(0o755)
        for more, words in (({"command": ("./program", "--wrong")}, "--wrong: unknown"),
                            ({"command": ("./program", "--resume", "never")}, "leave out --resume"),
                            ({"command": ()}, "expected the program"), ({"hosts": "a:x"}, "found 'a:x'"),
                            ({"command": ("./no_script",)}, "no_script: Exec format error"),
                            ({"mpirun": ""}, "--mpirun: expected a program"),
                            ({"mpirun": "'"}, "--mpirun ': No closing quotation"),
                            ({"options": ("--agent", " ")}, "--agent: expected a program"),
                            ({"options": ("--agent", "'")}, "--agent ': No closing quotation"),
                            ({"options": ("--tries", "0")}, "--tries: invalid positive int value: '0'"),
                            ({"options": ("--wait-s", "nan")}, "--wait-s: invalid positive float value: 'nan'"),
                            ({"mpirun": "missing"}, "missing: no such program")):
            with self.subTest(words):
                said, starts = self.elastic([], 2, *more.pop("options", ()), **more)
                self.assertEqual((words in said, starts), (True, []), said)
                self.assertNotIn("Traceback", said)

    def test_bad_input_of_the_first_start_ends_it(self):
        self.write("mpirun", "#!/bin/bash\necho x >> starts; exit 2\n")
        self.assertEqual(len(self.elastic([], 2)[1]), 1)

    def test_hosts_that_never_answer(self):
        self.write("dead/h2", "")
        said, starts = self.elastic(["8 0"], 0, "--wait-s", "1")
        self.assertIn("starting 1 ranks on 1 hosts, without h2", said)
        self.assertIn("-H h1:1 ", starts[0])
        said, starts = self.elastic([], 1, "--wait-s", "1", "--min-ranks", "3", "--hosts-s", "3")
        self.assertIn("giving up: only 1 of 2 hosts answer", said)
        self.assertEqual(len(starts), 1)

    def test_an_mpirun_that_hangs_or_dies(self):
        said, starts = self.elastic(["8 hang", "16 orphan", "24 0"], 0)
        self.assertIn("mpirun hangs: no rank is up any more", said)
        self.assertEqual(len(starts), 3)

    def test_signals_stop_the_run(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            with self.subTest(number):
                self.run_line("rm -rf runs starts")
                self.write("plan", "8 wait\n")
                process = self.start("elastic.py", *self.arguments())
                self.assertTrue(wait_until((self.folder / "runs/run/metrics.jsonl").exists))
                process.send_signal(number)
                out, _ = process.communicate(timeout=TIMEOUT_S)
                self.assertEqual(process.returncode, 75, out)
                self.assertEqual(processes_with_environment(str(self.folder)), [])


class Hosts(ElasticTest):
    """With the trainer and Open MPI's mpirun."""

    def setUp(self):
        super().setUp()
        # Both hosts are this machine: Open MPI 5 looks for a way between them, and leaves the loopback out by itself.
        version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=True).stdout
        way = " --mca btl_tcp_if_include lo" if "(Open MPI) 5" in version else ""
        arguments = self.arguments("--wait-s", "7", mpirun="mpirun --bind-to none --oversubscribe" + way,
                                   command=(self.trainer, "--config", "run.yaml"))
        environment = {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        with open(self.folder / "console", "w", encoding="utf-8") as console:
            self.process = self.start("elastic.py", *arguments, environment=environment, stdout=console)
        self.heard = 0

    def hears(self, pattern):
        """It says this, after what it said before."""
        def has():
            return re.search(pattern, self.read("console")[self.heard:])

        self.assertTrue(wait_until(has), f"no {pattern} in:\n{self.read('console')[self.heard:]}")
        self.heard += has().end()

    def ranks(self, host=""):
        return processes_with_environment(f"FAKE_HOST={self.folder}/{host}", self.trainer)

    def steps(self):
        """Until the run has made steps and a checkpoint."""
        checkpoints = self.folder / "runs/run/checkpoints"

        def newest():
            return max((path.name for path in checkpoints.glob("step-????????")), default="")

        before = newest()
        self.assertTrue(wait_until(lambda: newest() > before), f"nothing after {before!r}:\n{self.read('console')[-4000:]}")

    def test_ranks_and_hosts_that_die_and_come_back(self):
        self.hears(r"starting 3 ranks on 2 hosts, from step 0\n")
        self.steps()
        os.kill(self.ranks("h2")[0], signal.SIGKILL)
        self.hears(r"the job ended after .* exit code [1-9]")  # 137, or 14 if Open MPI 5 misses its daemon first
        self.hears(r"starting 3 ranks on 2 hosts, from step [1-9]")
        self.steps()

        (self.folder / "dead/h2").touch()
        self.end(f"FAKE_HOST={self.folder}/h2", signal.SIGSTOP)  # silent, as without power
        self.hears(r"lost h2\n")
        self.hears(r"starting 1 ranks on 1 hosts, without h2, from step [1-9]")
        self.steps()
        self.end(f"FAKE_HOST={self.folder}/h2")
        (self.folder / "dead/h2").unlink()
        self.hears(r"h2 answers")
        self.hears(r"checkpoint of step \d+: stopping to take h2 back")
        self.hears(r"starting 3 ranks on 2 hosts, from step [1-9]")
        self.steps()
        self.assertEqual(len(self.ranks()), 3)

        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(TIMEOUT_S), 75)
        self.hears(r"stopped with exit code 75")
        self.assertEqual(processes_with_environment(str(self.folder)), [])

    def test_nothing_outlives_it(self):
        self.steps()
        self.process.kill()
        self.assertTrue(wait_until(lambda: not processes_with_environment(f"{self.folder}/h")))
        self.assertIn('"status":"stopped"', self.read("runs/run/metrics.jsonl").splitlines()[-1])


if __name__ == "__main__":
    ElasticTest.trainer = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
