"""What the *_cli_test.py share: programs run in a temporary folder, as a user would.

    /usr/bin/python3 train_cli_test.py PROGRAM MPIRUN [unittest's arguments]
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

from processes import TIMEOUT_S, kill_group, mpirun

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "ASAN_OPTIONS": "detect_leaks=0",  # MPI's libraries keep memory to the end
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


class Result:
    """The end of a program."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __str__(self):
        return f"exit code {self.code}\n--- standard output\n{self.out}\n--- standard error\n{self.err}"


class CliTest(unittest.TestCase):
    """Each test has a folder of its own, the current one of the programs it runs."""

    program = ""
    mpirun = ""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dcs3gd-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def command(self, arguments, ranks=None):
        line = [self.program, *map(str, arguments)]
        if ranks is None:
            return line
        return [*mpirun(self.mpirun, ranks), *line]

    def environment(self, changes):
        environment = {name: value for name, value in os.environ.items() if name != "DCS3GD_DATA"}
        environment.update(_ENVIRONMENT)
        environment.update(changes or {})
        return environment

    def start(self, *arguments, ranks=None, environment=None, **options):
        """Starts the program in a process group of its own."""
        process = subprocess.Popen(self.command(arguments, ranks), cwd=self.folder, env=self.environment(environment),
                                   stdin=subprocess.DEVNULL, start_new_session=True, **options)
        self.addCleanup(kill_group, process)
        return process

    def run_program(self, *arguments, ranks=None, environment=None):
        process = self.start(*arguments, ranks=ranks, environment=environment, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, encoding="utf-8")
        out, err = process.communicate(timeout=TIMEOUT_S)
        return Result(process.returncode, out, err)

    def succeed(self, *arguments, **options):
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.code, 0, result)
        self.assertNotIn(" error: ", result.err, result)
        return result

    def refuse(self, *arguments, says, code=2, **options):
        """The program ends with `code`, and all words of `says` stand in what it says on standard error."""
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.code, code, result)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, result.err, result)
        return result

    def read(self, path):
        return (self.folder / path).read_text()

    def read_jsonl(self, path):
        return [json.loads(line) for line in self.read(path).splitlines()]

    def names(self, path="."):
        return sorted(entry.name for entry in (self.folder / path).iterdir())


def write_png(path, width, height, pixels):
    """RGB, 8 bits; `pixels`: bytes by rows."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + pixels[3 * width * row:3 * width * (row + 1)] for row in range(height))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                     chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_photos(folder, count, classes=("cat", "dog", "emu")):
    """An image folder in ImageNet's form: count photos a class in train, half of that in val."""
    for part, images in (("train", count), ("val", count // 2)):
        for label, name in enumerate(classes):
            for number in range(images):
                width, height = 40 + 3 * number, 60 - number
                pixels = bytes((x * (label + 1) * 5 + y * (number + 1) + 80 * channel) % 256
                               for y in range(height) for x in range(width) for channel in range(3))
                write_png(folder / part / name / f"{number:03}.png", width, height, pixels)


def main():
    CliTest.program = str(pathlib.Path(sys.argv.pop(1)).resolve())
    CliTest.mpirun = sys.argv.pop(1)
    unittest.main(module="__main__", verbosity=2)
