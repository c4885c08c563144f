"""What speed must hold on any machine: more cores are never slower. Usage: cli_support.py."""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
from cli_support import CliTest, main

# In turns, so that what disturbs one disturbs the other; of each the fastest step, which is the least disturbed.
ROUNDS = 3
STEPS = "100"
# What is left for other programs on the second core; small steps whose threads wait in vain take 1.4 to 2 times as long.
TOLERANCE = 1.2


class BenchSpeedTest(CliTest):
    def fastest_ms(self, model, batch, threads):
        line = self.succeed("nn", "--model", model, "--batch", batch, "--threads", threads, "--steps", STEPS, "--json").out
        return json.loads(line)["step_ms_min"]

    def test_two_threads_are_never_slower_than_one(self):
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("two threads need two cores")
        for model, batch in (("lenet5", "1"), ("lenet5", "8"), ("resnet20", "1"), ("resnet20", "8")):
            with self.subTest(model=model, batch=batch):
                times = [[self.fastest_ms(model, batch, threads) for threads in ("1", "2")] for _ in range(ROUNDS)]
                one, two = (min(column) for column in zip(*times))
                self.assertLess(two, TOLERANCE * one, times)


if __name__ == "__main__":
    main()
