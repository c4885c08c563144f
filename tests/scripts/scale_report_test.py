"""scripts/scale_report.py: the page of a prediction, and files that hold none.

    /usr/bin/python3 scale_report_test.py [DCS3GD_TRAIN [unittest's arguments]]
"""

import json
import sys
import unittest

from report_test import Page
from scripts_support import ScriptTest

INPUTS = {"bench": "scale", "inputs": True, "model": "resnet50", "batch": 16, "parameters": 25557032,
          "compute_ms": [1900.0, 2000.0, 2300.0], "alone_ms": 2066.7, "pause_ms": 0, "jitter": 0, "straggler_share": 0,
          "straggler_factor": 1, "slow_rank": 1, "fresh": 0.9, "algorithm": "ring", "latency_us": 48, "gbit_s": 25,
          "message_us": 1, "sum_gb_s": 8, "latency_source": "<measured>"}  # fmt: skip


def prediction(rule, bits, ranks, efficiency):
    return {"bench": "scale", "rule": rule, "ranks": ranks, "bits": bits, "step_ms": 2066.7 / efficiency,
            "all_reduce_ms": 0 if ranks == 1 else 10 * ranks, "wait_ms": 2066.7 / efficiency - 2066.7, "overlap": 0.5,
            "images_per_s": 8 * ranks * efficiency, "efficiency": efficiency, "is_replayed": ranks <= 8}


class ScaleReport(ScriptTest):
    def write_lines(self, *lines):
        return self.write("scale.json", "".join(json.dumps(line) + "\n" for line in lines))

    def test_page(self):
        lines = [prediction(rule, bits, ranks, min(1, 300 / ranks))
                 for rule in ("ssgd", "dc_s3gd", "ddp") for bits in (32, 8) for ranks in (1, 8, 256, 10000)]
        self.write_lines(INPUTS, *lines)
        self.run_script("scale_report.py", "scale.json")
        page = Page(self.read("scale.html"))
        words = " ".join(page.words)
        self.assertEqual(page.svgs, 7)
        self.assertEqual([one for one in page.references if not one.startswith("#")], [], "needs no other file")
        self.assertEqual(len(page.ids), len(set(page.ids)))
        for text in ("25,557,032", "<measured>", "256", "10,000", "one shared link", "like DDP"):
            self.assertIn(text, words)

    def test_what_is_no_prediction(self):
        for name, text in (("empty", ""), ("text", "step 1\n"), ("other", '{"bench": "comm"}\n')):
            self.write(name, text)
            _, err = self.run_script("scale_report.py", name, code=2)
            self.assertIn(name, err)
        _, err = self.run_script("scale_report.py", "nowhere", code=1)
        self.assertIn("nowhere", err)
        self.assertFalse((self.folder / "scale.html").exists())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
