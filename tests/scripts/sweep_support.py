"""What the tests of sweeps share: a sweep in a temporary folder with a stand-in for the trainer."""

import csv
import pathlib

from scripts_support import ScriptTest

FAKE_TRAINER = pathlib.Path(__file__).resolve().parent / "fake_trainer.py"
HEAD = "config: base.yaml\nlaunch: {parallel: 1}\n"


class SweepTest(ScriptTest):
    def setUp(self):
        super().setUp()
        self.write("base.yaml", "")

    def sweep(self, text, *arguments, code=0):
        self.write("s.yaml", HEAD + text)
        return self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, *arguments, code=code)

    def rows(self):
        with open(self.folder / "runs/s/results.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def starts(self):
        """(run, the step from which it went on) in the order of starts."""
        lines = [line.split() for line in self.read("runs/s/starts.txt").splitlines()]
        return [(name, int(step)) for name, step, _ in lines]

    def left_over(self):
        """Processes that have this test's folder as their current one."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").resolve() == self.folder.resolve():
                    found.append((entry / "cmdline").read_bytes())
            except OSError:
                pass  # it ended meanwhile
        return [line for line in found if line]
