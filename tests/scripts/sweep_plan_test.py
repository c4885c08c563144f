"""scripts/sweep.py and sweep_plan.py: which runs a sweep has, and what is refused before one starts.

    /usr/bin/python3 sweep_plan_test.py DCS3GD_TRAIN [unittest's arguments]
"""

import math
import pathlib
import shutil
import sys
import tempfile
import unittest

from scripts_support import import_script
from sweep_support import FAKE_TRAINER, HEAD, SweepTest

sweep_plan = import_script("sweep_plan")


class Folder(unittest.TestCase):
    def test_a_tilde_is_the_home_folder(self):
        sweep = sweep_plan.Sweep(name="s", config="c.yaml", output_dir="~/runs")
        self.assertEqual(sweep.folder(), pathlib.Path.home() / "runs/s")


class Random(SweepTest):
    TEXT = """
search: random
runs: 6
seed: 3
parameters:
  fake.quality: {min: 0.1, max: 0.9}
  optimizer.lr.base: {min: 1e-4, max: 1, scale: log}
  fake.steps: {min: 1, max: 4, integer: true}
  algorithm.name: [ssgd, s3gd]
"""

    def plan(self, text):
        self.write("s.yaml", HEAD + text)
        return sweep_plan.planned_runs(sweep_plan.read_sweep(self.folder / "s.yaml"))

    def test_draws(self):
        runs = self.plan(self.TEXT.replace("runs: 6", "runs: 200"))
        names = [run.name for run in runs]
        self.assertEqual(len(set(names)), 200)
        for run in runs:
            self.assertTrue(0.1 <= run.values["fake.quality"] <= 0.9)
            self.assertTrue(1e-4 <= run.values["optimizer.lr.base"] <= 1)
            self.assertIn(run.values["fake.steps"], (1, 2, 3, 4))
        below = sum(run.values["optimizer.lr.base"] < 1e-2 for run in runs)
        self.assertTrue(70 <= below <= 130, "half of the logarithmic range")
        self.assertEqual([run.name for run in self.plan(self.TEXT)], names[:6], "fewer runs are the first of more")
        self.assertNotEqual([run.name for run in self.plan(self.TEXT.replace("seed: 3", "seed: 4"))], names[:6])

    def test_it_runs(self):
        self.sweep(self.TEXT)
        accuracies = [float(row["best_top1"]) for row in self.rows()]
        self.assertEqual((len(accuracies), accuracies), (6, sorted(accuracies, reverse=True)))

    def test_too_few_combinations(self):
        _, err = self.sweep("search: random\nruns: 9\nparameters: {fake.steps: [1, 2, 3]}\n", code=2)
        self.assertIn("have no 9 different combinations, only about 3", err)


class Refusals(SweepTest):
    def refuse(self, text, *words, head=HEAD):
        self.write("s.yaml", head + text)
        _, err = self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, code=2)
        for word in words:
            self.assertIn(word, err)
        self.assertFalse((self.folder / "runs").exists())
        return err

    def test_all_mistakes_at_once_with_their_places(self):
        err = self.refuse("paramters: {a.b: [1]}\nsearch: gird\nseed: -1\nrank_by: top1\nlaunch: {rank: 2}\n",
                          "s.yaml:2:1: paramters: unknown key. Did you mean parameters?",
                          "s.yaml:3:9: search: must be one of grid, random; found gird. Did you mean grid?",
                          "s.yaml:4:7: seed: must be a whole number of at least 0; found -1",
                          "s.yaml:5:10: rank_by: must be one of best_top1,",
                          "s.yaml:6:10: launch.rank: unknown key. Did you mean ranks?", head="config: base.yaml\n")
        self.assertEqual(len(err.splitlines()), 5)

    def test_what_is_missing(self):
        self.refuse("seed: 1\n", "config: is missing", "parameters: is missing", head="")
        self.refuse("search: random\nparameters: {a.b: [1]}\n", "runs: is missing")
        self.refuse("", "the file is empty", head="")

    def test_variants(self):
        for text, words in (("{}", "has no variant"), ("{a b: {}}", "must be a short name"), ("{a: 1}", "expected KEY"),
                            ("{a: {lr: 1}}", "variants.a.lr: must be a whole key"),
                            ("{a: {f.b: 1}}\nset: {f.b: 2}", "variants.a.f.b: stands in parameters or set, too")):
            self.refuse(f"variants: {text}\n", words)

    def test_parameters(self):
        for text, words in (("{a.b: 1}", "must be a list of values or a range"), ("{a.b: []}", "the list is empty"),
                            ("{a.b: [1, 1]}", "1 stands there twice"), ("{a.b: [{1: 1}]}", "a value is a number"),
                            ("{lr: [1]}", "must be a whole key"), ("{run.name: [a]}", "is set by the sweep"),
                            ("{a.b: [1], a.b: [2]}", "parameters.a.b: stands there twice"),
                            ("{a.b: {min: 1, max: 2}}", "a range needs search: random"),
                            ("{a.b: {min: 2, max: 1}}", "min must be below max"),
                            ("{a.b: {min: 0, max: 1, scale: log}}", "needs a min above 0"),
                            ("{a.b: {min: x, max: 1}}", "a.b.min: must be a number; found x"),
                            ("{a.b: {mni: 1, max: 1}}", "Did you mean min?"),
                            ("{a.b: {min: 1, max: 3, scale: lgo}}", "must be linear or log")):
            with self.subTest(text):
                self.refuse(f"parameters: {text}\n", "s.yaml:", words)
        self.refuse("parameters: {a.b: [1]}\nset: {a.b: 2}\n", "set.a.b: is searched, too")
        self.refuse("parameters: {a.b: [1]}\nruns: 3\n", "runs: belongs to search: random")

    def test_yaml_mistakes_and_missing_files(self):
        self.refuse("parameters: {a.b: [1}\n", "s.yaml:3:21:")
        self.assertIn("nowhere.yaml: No such file", self.run_script("sweep.py", "nowhere.yaml", code=2)[1])
        self.write("s.yaml", HEAD + "parameters: {a.b: [1]}\n")
        self.assertIn("no such program", self.run_script("sweep.py", "s.yaml", "--program", "nowhere", code=2)[1])

    def test_slurm_that_is_not_there(self):
        self.write("s.yaml", "config: b\nlaunch: {kind: slurm}\nparameters: {a.b: [1]}\n")
        _, err = self.run_script("sweep.py", "s.yaml", "--program", FAKE_TRAINER, code=2,
                                 environment={"PATH": "/nowhere"})
        self.assertIn("there is no sbatch on this machine", err)


class Values(unittest.TestCase):
    def test_settings_are_yaml_on_one_line(self):
        for value, text in ((0.05, "0.05"), (True, "true"), (None, "null"), ("cosine", "cosine"),
                            ([15, 25], "[15, 25]"), ("1e-3", "1e-3"), ("a: b", "'a: b'"), ("x" * 300, "x" * 300),
                            ([{"match": "fc", "lr_factor": 10.0}], "[{lr_factor: 10.0, match: fc}]")):
            self.assertEqual(sweep_plan.value_text(value), text)

    def test_variants_are_settings_that_belong_together(self):
        sweep = sweep_plan.Sweep("s", "c", parameters={"variant": ["plain", "both"], "run.seed": [1, 2]}, set={"a.b": 1},
                                 variants={"plain": {}, "both": {"a.c": 2, "a.d": 3}})
        runs = sweep_plan.planned_runs(sweep)
        self.assertEqual([run.name for run in runs], ["plain,seed=1", "plain,seed=2", "both,seed=1", "both,seed=2"])
        self.assertEqual(runs[0].settings[:2], ["a.b=1", "run.seed=1"])
        self.assertEqual(runs[3].settings[:4], ["a.b=1", "run.seed=2", "a.c=2", "a.d=3"])

    def test_values_of_mappings(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "s.yaml").write_text("config: c.yaml\n"
                                            "parameters: {optimizer.groups: [[], [{match: fc, lr_factor: 10}]]}\n"
                                            "variants: {head: {optimizer.momentum: 0.5}}\n")
        runs = sweep_plan.planned_runs(sweep_plan.read_sweep(self.folder / "s.yaml"))
        self.assertEqual([run.name for run in runs], ["head,groups=", "head,groups=lr_factor_10_match_fc"])
        self.assertIn("optimizer.groups=[{lr_factor: 10, match: fc}]", runs[1].settings)

    def test_names(self):
        sweep = sweep_plan.Sweep("s", "c", parameters={"model.name": ["a/b"], "algorithm.name": ["x"],
                                                       "optimizer.lr.milestones": [[1, 2]]})
        run, = sweep_plan.planned_runs(sweep)
        self.assertEqual(run.name, "model.name=a_b,algorithm.name=x,lr.milestones=1_2")
        sweep.parameters = {f"a.k{index}": [math.pi] for index in range(30)}
        self.assertLessEqual(len(sweep_plan.planned_runs(sweep)[0].name), 150)


if __name__ == "__main__":
    sys.argv.pop(1)  # the trainer: a stand-in does here
    unittest.main()
