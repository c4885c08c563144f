"""tests/support/list_skips.py on what ctest says. Usage: list_skips_test.py PROGRAM, which is not used."""

import subprocess
import sys
import unittest

from scripts_support import SCRIPTS, ScriptTest

# One test of each kind; its script is the name of the last test.
TESTS = {"quiet": "exit 77", "loud": "echo 'skipped: no data under THERE'; exit 77", "whole": "echo fine",
         "part": "echo \"test_a ... skipped 'needs a tool'\"; echo 'a.cpp:4: MESSAGE: skipped: no bf16: avx2'"}
SKIPS = ["quiet: no reason given", "loud: no data under THERE", "part: needs a tool", "part: no bf16: avx2"]


class ListSkipsTest(ScriptTest):
    def setUp(self):
        super().setUp()
        lines = "".join(f'add_test({name} "bash" "{self.write(name, text)}")\n'
                        f"set_tests_properties({name} PROPERTIES SKIP_RETURN_CODE 77)\n" for name, text in TESTS.items())
        self.write("CTestTestfile.cmake", lines)
        subprocess.run(["ctest", "--output-junit", "results.xml", "--test-output-size-passed", "1000000"], cwd=self.folder,
                       check=True, capture_output=True)

    def list(self, allowed, environment):
        script = SCRIPTS.parent / "tests/support/list_skips.py"
        return subprocess.run([script, self.write("allowed", allowed), "results.xml"], cwd=self.folder, text=True,
                              env=environment, capture_output=True, check=False)

    def test_names_and_reasons(self):
        result = self.list("", {})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.count("\n"), 1 + len(SKIPS), result.stdout)
        for skip in SKIPS:
            self.assertIn(skip, result.stdout)

    def test_what_ci_allows(self):
        rules = ["quiet no reason", "l* under THERE", "part needs a tool", "part no bf16"]
        self.assertEqual(self.list("# words\n" + "\n".join(rules), {"CI": "true"}).returncode, 0)
        for number in range(len(rules)):
            result = self.list("\n".join(rules[:number] + rules[number + 1:]), {"CI": "true"})
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertEqual(result.stdout.count("not in"), 1, result.stdout)


if __name__ == "__main__":
    del sys.argv[1:]
    unittest.main()
