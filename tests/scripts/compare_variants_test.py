#!/usr/bin/python3
"""scripts/compare_variants.py: its t quantiles against tables, its differences against a hand-made file."""

import math
import sys
import unittest
from pathlib import Path

from scripts_support import ScriptTest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import compare_variants  # noqa: E402

RESULTS = """rank,run,variant,run.seed,status,best_top1,final_top1,eval_loss
1,a,sync,1,done,0.9,0.80,1
2,b,sync,2,done,0.9,0.82,1
3,c,sync,3,done,0.9,0.84,1
4,d,stale,1,done,0.9,0.79,1
5,e,stale,2,done,0.9,0.80,1
6,f,stale,3,done,0.9,0.83,1
7,g,stale,4,done,0.9,0.10,1
8,h,wild,1,diverged,,,
9,i,late,1,stopped,0.9,0.9,1
"""


class Quantiles(unittest.TestCase):
    def test_tables(self):
        for freedom, one_sided, two_sided in ((1, 6.314, 12.706), (2, 2.920, 4.303), (4, 2.132, 2.776),
                                              (7, 1.895, 2.365), (30, 1.697, 2.042)):
            self.assertAlmostEqual(compare_variants.t_quantile(0.95, freedom), one_sided, delta=0.002)
            self.assertAlmostEqual(compare_variants.t_quantile(0.975, freedom), two_sided, delta=0.002)


class Comparison(ScriptTest):
    def test_pairs_with_the_same_seed_are_compared(self):
        self.write("r.csv", RESULTS)
        rows = {row[0]: row for row in compare_variants.compare(compare_variants.read(self.folder / "r.csv", "final_top1"),
                                                               "sync")}
        self.assertEqual(set(rows), {"sync", "stale", "wild"})
        _, count, mean, _, difference, half, bound = rows["stale"]
        self.assertEqual(count, 3)  # seed 4 has no partner
        self.assertAlmostEqual(mean, 80 + 2 / 3)
        self.assertAlmostEqual(difference, -4 / 3)
        error = math.sqrt(1 / 3) / math.sqrt(3)  # differences -1, -2, -1
        self.assertAlmostEqual(half, 4.3027 * error, places=3)
        self.assertAlmostEqual(bound, -4 / 3 - 2.92 * error, places=3)
        self.assertEqual(rows["wild"][4], -80)

    def test_the_table(self):
        self.write("r.csv", RESULTS)
        out, _ = self.run_script("compare_variants.py", "r.csv", "--baseline", "sync", "--margin", "3")
        self.assertIn("| `stale` | 3 | 80.67 |", out)
        self.assertIn("| yes |", out)

    def test_mistakes(self):
        self.write("r.csv", RESULTS)
        _, err = self.run_script("compare_variants.py", "r.csv", "--baseline", "snyc", code=2)
        self.assertIn("no finished run of snyc; there are sync, stale, wild", err)
        _, err = self.run_script("compare_variants.py", "none.csv", "--baseline", "sync", code=2)
        self.assertIn("none.csv", err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
