"""What an installation holds, and that it works from there. Usage: install_test.py BUILD_FOLDER VERSION."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

EXPECTED = [
    "bin/dcs3gd-bench", "bin/dcs3gd-data", "bin/dcs3gd-predict", "bin/dcs3gd-train", "bin/dcs3gd-compare-variants",
    "bin/dcs3gd-convert-weights", "bin/dcs3gd-elastic", "bin/dcs3gd-report", "bin/dcs3gd-scale-report",
    "bin/dcs3gd-sweep",
    "share/bash-completion/completions/dcs3gd-train", "share/dcs3gd-train/configs/tiny.yaml",
    "share/dcs3gd-train/scripts/elastic.py", "share/dcs3gd-train/scripts/report.py",
    "share/dcs3gd-train/scripts/sweep.py", "share/man/man1/dcs3gd-train.1.gz",
]  # fmt: skip


def run(*command, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("environment", {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=environment, **options)


class InstallTest(unittest.TestCase):
    build = version = ""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="dcs3gd-install-"))
        cls.prefix = cls.folder / "usr"
        result = run("cmake", "--install", cls.build, "--prefix", str(cls.prefix))
        assert result.returncode == 0, result.stdout + result.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def complete(self, *words):
        """What bash would offer for the last word."""
        script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _dcs3gd_train; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        path = f"{self.prefix}/bin:{os.environ['PATH']}"
        completion = str(self.prefix / "share/bash-completion/completions/dcs3gd-train")
        result = run("bash", "-c", script, "bash", completion, "dcs3gd-train", *words, cwd=self.folder,
                     environment={"PATH": path})
        return result.stdout.split()

    def test_files(self):
        for path in EXPECTED:
            self.assertTrue((self.prefix / path).exists(), path)

    def test_configurations_are_found_by_name(self):
        result = run(str(self.prefix / "bin/dcs3gd-train"), "--config", "tiny.yaml", "--print-config", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("name: resnet20", result.stdout)

    def test_scripts_have_what_they_import(self):
        for script in self.prefix.glob("share/dcs3gd-train/scripts/*.py"):
            if os.access(script, os.X_OK):
                result = run("/usr/bin/python3", "-B", str(script), "--help", cwd=self.folder)
                self.assertEqual(result.returncode, 0, result.stderr)

    def expect_whole(self, prefix):
        """From a run to its page, a sweep and PyTorch's file, all with the commands of an installation."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        (folder / "sweep.yaml").write_text("config: tiny.yaml\nparameters: {run.seed: [1, 2]}\nset: {run.max_steps: 1}\n")
        for command, says in (("dcs3gd-train --config tiny.yaml --set run.max_steps=2", "done"),
                              ("dcs3gd-report runs/tiny", "dcs3gd-report: 1 run: report.html"),
                              ("dcs3gd-convert-weights runs/tiny/model.safetensors tiny.pth", "tensors"),
                              ("dcs3gd-sweep sweep.yaml --dry-run", "run.seed=2"),
                              ("dcs3gd-elastic --help", "usage: dcs3gd-elastic"),
                              ("dcs3gd-compare-variants --help", "usage: dcs3gd-compare-variants")):
            program, *arguments = command.split()
            result = run(str(prefix / "bin" / program), *arguments, cwd=folder)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            self.assertIn(says, result.stdout, command)
        self.assertIn("</html>", (folder / "report.html").read_text())
        self.assertGreater((folder / "tiny.pth").stat().st_size, 1_000_000)

    def test_commands_work(self):
        self.expect_whole(self.prefix)

    def test_programs_are_hardened(self):
        """Position-independent, relocations read-only and bound at the start, stack protectors, checked library calls."""
        if shutil.which("readelf") is None:
            self.skipTest("readelf is missing: install binutils")
        for program in ("dcs3gd-bench", "dcs3gd-data", "dcs3gd-predict", "dcs3gd-train"):
            said = run("readelf", "--wide", "--file-header", "--dynamic", "--program-headers", "--dyn-syms",
                       str(self.prefix / "bin" / program)).stdout
            for words in ("DYN (Position-Independent", "GNU_RELRO", "BIND_NOW", "__stack_chk_fail", "_chk@GLIBC"):
                self.assertIn(words, said, program)

    def test_completion(self):
        self.assertIn("--dry-run", self.complete("--d"))
        self.assertIn("tiny.yaml", self.complete("--config", "ti"))
        self.assertEqual(self.complete("--set", "optimizer.lr.ba"), ["optimizer.lr.base="])
        self.assertIn("run.epochs=", self.complete("--set", "run."))
        self.assertIn("run.name=", self.complete("--set", "run.n"))
        self.assertEqual(self.complete("--set", "model.name", "=", "resnet18"), ["resnet18"])
        self.assertEqual(self.complete("--set", "data.shuffle", "="), ["true", "false"])
        self.assertEqual(self.complete("--resume", "ne"), ["never"])

    def test_debian_package(self):
        for program, package in (("dpkg-shlibdeps", "dpkg-dev"), ("file", "file"), ("lintian", "lintian")):
            if shutil.which(program) is None:
                self.skipTest(f"{program} is missing: install {package}")
        result = run("cpack", "-G", "DEB", "--config", f"{self.build}/CPackConfig.cmake", "-B", str(self.folder / "deb"))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        package = next((self.folder / "deb").glob("*.deb"))
        fields = run("dpkg-deb", "--field", str(package)).stdout
        for words in (f"Version: {self.version}", "openmpi-bin", r"libdnnl\d", r"libopenmpi\d"):
            self.assertRegex(fields, words)
        result = run("lintian", "--fail-on", "error,warning", str(package))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        root = self.folder / "root"
        self.assertEqual(run("dpkg-deb", "--extract", str(package), str(root)).returncode, 0)
        self.expect_whole(root / "usr")


if __name__ == "__main__":
    InstallTest.build, InstallTest.version = sys.argv[1:3]
    del sys.argv[1:3]
    unittest.main(verbosity=2)
