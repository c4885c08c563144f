"""dcs3gd-bench as scripts call it: short measurements, their keys. Usage: cli_support.py."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
from cli_support import CliTest, main, write_photos


class BenchTest(CliTest):
    def lines(self, *arguments, **options):
        result = self.succeed(*arguments, "--json", **options)
        return [json.loads(line) for line in result.out.splitlines()]

    def has_keys(self, line, *keys):
        self.assertLessEqual(set(keys), set(line))

    def test_nn(self):
        arguments = ["nn", "--model", "lenet5", "--batch", "8", "--steps", "3", "--threads", "1"]
        (line,) = self.lines(*arguments, "--precision", "fp32")
        self.has_keys(line, "bench", "model", "batch", "precision", "threads", "images_per_s", "bound_images_per_s",
                      "peak_memory_bytes")
        self.assertEqual([line[key] for key in ("bench", "model", "batch", "precision", "threads")],
                         ["nn", "lenet5", 8, "fp32", 1])
        self.assertGreater(line["images_per_s"], 0)
        self.assertGreater(line["peak_memory_bytes"], 1e6)
        self.assertIn("img/s", self.succeed(*arguments).out)

    def test_nn_evaluation(self):
        arguments = ["nn", "--model", "lenet5", "--batch", "32", "--steps", "3", "--threads", "1"]
        (training,), (evaluation,) = self.lines(*arguments), self.lines(*arguments, "--evaluate")
        self.assertEqual([line["pass"] for line in (training, evaluation)], ["training", "evaluation"])
        self.assertGreater(min(evaluation["images_per_s"], evaluation["bound_images_per_s"]), 0)
        self.assertIn("evaluation", self.succeed(*arguments, "--evaluate").out)

    def test_comm(self):
        lines = self.lines("comm", "--max-floats", "16384", "--seconds-per-size", "0.01", ranks=2)
        for line in lines:
            self.has_keys(line, "bench", "algorithm", "wire", "ranks", "floats", "n", "median_ms", "bus_gb_s")
            self.assertEqual((line["bench"], line["ranks"]), ("comm", 2))
            self.assertGreater(line["bus_gb_s"], 0)
        for floats in (1024, 16384):
            contenders = {(line["algorithm"], line["wire"]) for line in lines if line["floats"] == floats}
            algorithms = ("ring", "direct", "doubling", "hierarchical")
            ours = {(algorithm, wire) for algorithm in algorithms for wire in ("fp32", "bf16")}
            self.assertLessEqual(ours | {("mpi", "fp32")}, contenders)

    def test_step(self):
        (line,) = self.lines("step", "--model", "lenet5", "--batch", "8", "--algorithm", "dc_s3gd", "--wire", "bf16",
                             "--rounds", "2", ranks=2)
        self.has_keys(line, "bench", "algorithm", "wire", "ranks", "compute_ms", "step_ms", "all_reduce_ms", "wait_ms",
                      "images_per_s")
        self.assertEqual([line[key] for key in ("bench", "algorithm", "wire", "ranks")], ["step", "dc_s3gd", "bf16", 2])
        self.assertGreater(line["step_ms"], line["wait_ms"])

    def test_update(self):
        (line,) = self.lines("update", "--floats", "100000", "--repetitions", "5")
        self.has_keys(line, "bench", "floats", "median_ms", "bound_ms")
        self.assertEqual((line["bench"], line["floats"]), ("update", 100000))
        self.assertGreater(line["median_ms"], 0)

    def test_loader(self):
        write_photos(self.folder / "photos", 12)
        (line,) = self.lines("loader", "--data", "photos", "--seconds", "0.1", "--threads", "2")
        self.has_keys(line, "bench", "threads", "images_per_s", "bound_images_per_s")
        self.assertEqual((line["bench"], line["threads"]), ("loader", 2))
        self.assertGreater(line["images_per_s"], 0)
        self.assertIn("img/s", self.succeed("loader", "--data", "photos/train", "--seconds", "0.1").out)
        self.refuse("loader", says="--data")
        self.refuse("loader", "--data", "nowhere", says="nowhere")

    def test_wrong_usage(self):
        self.refuse(says="--help")
        self.refuse("nonsense", says=["nonsense", "--help"])
        self.refuse("nn", "--batch", "0", says="--batch")
        self.refuse("nn", "--model", "resnet21", says=["resnet21", "resnet20"])
        self.refuse("nn", "--precision", "fp8", says=["--precision", "fp8"])
        self.refuse("nn", "--flops", says="--flops")
        self.refuse("step", "--wire", "fp8", says="--wire")
        self.refuse("comm", "--max-floats", "many", says="--max-floats")
        self.refuse("comm", "--max-floats", "0", says="--max-floats")


if __name__ == "__main__":
    main()
