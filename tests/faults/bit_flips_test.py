#!/usr/bin/python3
"""Bits that flip on their way between two ranks: found wherever the ranks differ by them, and nothing of it saved.

    bit_flips_test.py PROGRAM MPIRUN SHIM [unittest's arguments]

SHIM is bit_flips.cpp as a library.
"""

import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from cli_support import CliTest, main

# 100 steps, a checkpoint after 40 and 80. Ranks of one host would sum in shared memory, where no message is.
RUN = """\
run: {epochs: 10, name: run, eval_every_epochs: 0}
model: {name: lenet5, classes: 2}
data: {format: synthetic, image_size: 16, channels: 1, synthetic: {train_images: 80, eval_images: 20}}
algorithm: {batch_per_worker: 4}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 0}}
comm: {algorithm: ring}
checkpoint: {every_epochs: null, every_steps: 40}
"""


# Of neighbouring messages one at least brings a sum to its end: only the receiver has it wrong then. In the others the sum
# itself goes wrong, for both alike.
MESSAGES = range(100, 104)
IN_EXPONENT = 0x02000000


class BitFlips(CliTest):
    shim = ""

    def run_with(self, algorithm, message, bits):
        (self.folder / "run.yaml").write_text(RUN)
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        return self.run_program("--config", "run.yaml", "--set", f"algorithm.name={algorithm}", ranks=2,
                                environment={"LD_PRELOAD": self.shim, "BIT_FLIP": f"1 {message} {bits}"})

    def check_nothing_saved(self, status):
        self.assertEqual(self.read_jsonl("runs/run/metrics.jsonl")[-1]["status"], status)
        self.assertFalse((self.folder / "runs/run/model.safetensors").exists())
        for checkpoint in sorted((self.folder / "runs/run/checkpoints").glob("*")):
            self.succeed("--config", "run.yaml", "--eval", checkpoint)

    def test_replicas_that_differ_end_the_run_and_are_named(self):
        for algorithm in ("dc_s3gd", "ssgd"):
            found = 0
            for message in MESSAGES:
                with self.subTest(algorithm, message=message):
                    result = self.run_with(algorithm, message, IN_EXPONENT)
                    if result.code == 0:
                        continue
                    found += 1
                    self.assertEqual(result.code, 1, result)
                    self.assertIn("another mean model than on rank 0", result.err)
                    self.assertIn("no majority says which", result.err)
                    self.check_nothing_saved("failed")
                    steps = sum(event["event"] == "step" for event in self.read_jsonl("runs/run/metrics.jsonl"))
                    self.assertLess(steps, 80, "before a checkpoint compares all of the model")
            self.assertGreater(found, 0, algorithm)

    def test_nan_on_one_rank_alone_is_no_divergence(self):
        for algorithm in ("dc_s3gd", "ssgd"):
            codes = set()
            for message in MESSAGES:
                with self.subTest(algorithm, message=message):
                    # NaN, whatever the number was.
                    result = self.run_with(algorithm, message, 0x7FC00000)
                    codes.add(result.code)
                    if result.code == 1:
                        self.assertRegex(result.err, "no divergence|another mean model")
                    self.check_nothing_saved({1: "failed", 3: "diverged"}[result.code])
            self.assertEqual(codes, {1, 3}, "on one rank alone, and of all alike")


if __name__ == "__main__":
    BitFlips.shim = str(pathlib.Path(sys.argv.pop(3)).resolve())
    main()
