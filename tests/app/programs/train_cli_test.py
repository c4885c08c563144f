"""dcs3gd-train as a user meets it: its options, what it says before a run, and data that it refuses. Usage: cli_support.py."""

import os
import pathlib
import re
import shutil
import subprocess

from train_cli_support import TrainTest, setting
from cli_support import main, write_photos


class Usage(TrainTest):
    def test_help_and_version(self):
        text = self.succeed("--help").out
        for flag in ("--config", "--set", "--resume", "--eval", "--predictions", "--dry-run", "--print-config",
                     "--version"):
            self.assertIn(flag, text)
        self.assertRegex(self.succeed("--version").out, r"^dcs3gd-train \d+\.\d+\.\d+, build [0-9a-f]*\n.+ oneDNN \d")
        self.assertEqual(self.succeed("-h").out, text)
        self.assertEqual(self.succeed("-v").out, self.succeed("--version").out)

    def test_wrong_usage(self):
        self.refuse(says=["--config", "--help"])
        self.refuse("--confg", "x.yaml", says="Did you mean --config?")
        self.refuse("tiny_run.yaml", says="Did you mean --config tiny_run.yaml?")
        self.refuse("--config", "tiny_run.yaml", "--eval", "--dry-run", says="exclude each other")
        self.assertEqual(self.names(), ["tiny_run.yaml"])

    def test_missing_file_says_where_it_looked(self):
        self.refuse("--config", "nowhere.yaml",
                    says=["nowhere.yaml: no such file", "Looked for", "configs/nowhere.yaml"])

    def test_configurations_of_the_program_are_found_by_name(self):
        self.assertIn("resnet20", self.succeed("--config", "tiny.yaml", "--print-config").out)

    def test_all_mistakes_are_reported_at_once(self):
        self.write("wrong.yaml", "run: {epohcs: 3}\nmodel: {name: resnet21}\nalgorithm: {lambda0: two}\n")
        result = self.refuse("--config", "wrong.yaml", "--set", "optimizer.momentun=0",
                             says=["wrong.yaml:1:", "run.epohcs", "Did you mean", "wrong.yaml:2:", "resnet21",
                                   "wrong.yaml:3:", "algorithm.lambda0", "--set optimizer.momentun=0"])
        self.assertEqual(len(result.err.splitlines()), 4)
        self.assertEqual(self.names(), ["tiny_run.yaml", "wrong.yaml"])

    def test_printed_configuration_is_a_configuration(self):
        printed = self.succeed("--config", "tiny_run.yaml", *setting(run__epochs=3, optimizer__lr__base=0.25),
                               "--print-config").out
        self.assertRegex(printed, r"epochs: 3\b")
        self.assertRegex(printed, r"base: 0\.25\b")
        self.write("printed.yaml", printed)
        again = self.succeed("--config", "printed.yaml", "--print-config").out
        self.assertEqual(again, printed)
        self.assertEqual(self.names(), ["printed.yaml", "tiny_run.yaml"])


    def test_a_template_leaves_the_name_to_its_file(self):
        self.write("mine.yaml", self.succeed("--print-config").out)
        printed = self.succeed("--config", "mine.yaml", "--print-config").out
        self.assertRegex(printed, r"(?m)^  name: mine ")

    def test_the_page_of_keys_is_what_the_program_says(self):
        page = pathlib.Path(__file__).resolve().parents[3] / "configs/KEYS.md"
        self.assertEqual(page.read_text(encoding="utf-8"), self.succeed("--print-keys").out,
                         "make it anew: dcs3gd-train --print-keys > configs/KEYS.md")


class FirstConfiguration(TrainTest):
    """--init-config writes what trains, for folders of every form."""

    def expect_trains(self, folder, says, images):
        self.write("first.yaml", self.succeed("--init-config", folder).out)
        self.assertIn(says, (self.folder / "first.yaml").read_text())
        smaller = setting(model__name="resnet8", data__image_size=16)
        out = self.succeed("--config", "first.yaml", *smaller, "--dry-run").out
        self.assertRegex(out, r"(?m)^training time +about ")
        result = self.succeed("--config", "first.yaml", *smaller, *setting(run__max_steps=2))
        self.assertIn(f"({images} images)", result.out)
        self.assertNotIn("learning rate never", result.err)
        shutil.rmtree(self.folder / "runs")

    def test_parts(self):
        write_photos(self.folder / "photos", 24)
        self.expect_trains("photos", f"eval: {self.folder.resolve()}/photos/val", 36)

    def test_a_folder_without_parts_is_split(self):
        write_photos(self.folder / "photos", 24)
        self.expect_trains("photos/train", "split: 0.2", 15)
        self.assertNotIn("eval:", self.succeed("--init-config", "photos/train").out)
        shutil.rmtree(self.folder / "photos/val")
        self.expect_trains("photos", "split: 0.2", 15)

    def test_names_that_yaml_reads_otherwise(self):
        write_photos(self.folder / "my: #1 'photos'", 24)
        self.expect_trains("my: #1 'photos'", "eval:", 36)

    def test_refusals(self):
        self.refuse("--init-config", "nowhere", says="nothing found at")
        self.write("empty/none.txt", "")
        self.refuse("--init-config", "empty", says="no folder")
        write_photos(self.folder / "one", 4, classes=("cat",))
        self.refuse("--init-config", "one", says="found one class")


class DryRun(TrainTest):
    def test_data_that_are_not_there_are_a_warning_at_the_end(self):
        result = self.succeed("--config", "tiny_run.yaml", *Data.IDX, "--dry-run")
        self.assertIn("warning: the training data are not on this machine: i; nothing of it was checked", result.err + result.out)

    def test_it_tells_what_a_run_tells_at_its_start(self):
        out = self.succeed("--config", "tiny_run.yaml", "--dry-run").out
        for row in ("steps +16 ", "learning rate +0.02", "augmentation +none", "training time +about 0:0"):
            self.assertRegex(out, f"(?m)^{row}")

    def parameters(self, model):
        out = self.succeed("--config", "tiny_run.yaml", "--dry-run",
                           *setting(model__name=model, model__classes=1000, data__image_size=64, data__channels=3,
                                    algorithm__batch_per_worker=2)).out
        self.assertRegex(out, r"(?m)^memory .* MB per rank")
        self.assertRegex(out, r"(?m)^step 2 on random images: loss \d")
        return re.findall(r"(?m)^parameters: (\d+)$", out)

    def test_parameters_are_those_of_torchvision(self):
        self.assertEqual(self.parameters("resnet18"), ["11689512"])
        self.assertEqual(self.parameters("resnet50"), ["25557032"])
        self.assertEqual(self.names(), ["tiny_run.yaml"])

    def test_what_does_not_fit_is_a_warning(self):
        result = self.succeed("--config", "tiny_run.yaml", "--dry-run",
                              *setting(model__name="resnet20", checkpoint__keep=1000000, run__time_limit_minutes=1e-7))
        self.assertIn("lower checkpoint.keep", result.err)
        self.assertIn("run.time_limit_minutes", result.err)

    def test_memory_is_that_of_a_run(self):
        """Within 5 % of what the system has seen, where the model is what counts."""
        run = ["--config", "tiny_run.yaml", *setting(model__name="resnet20", data__image_size=32, data__channels=3,
               algorithm__batch_per_worker=64, algorithm__name="dc_s3gd", data__synthetic__train_images=128,
               run__epochs=1)]
        told = float(re.search(r"(?m)^memory +(\S+) MB per rank", self.succeed(*run, "--dry-run").out).group(1))
        process = self.start(*run, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        self.assertEqual(status, 0)
        self.assertAlmostEqual(told, usage.ru_maxrss * 1024 / 1e6, delta=0.05 * told)

    def test_what_is_frozen_and_what_is_sent(self):
        out = self.succeed("--config", "tiny_run.yaml", "--dry-run", ranks=2,
                           *setting(model__name="resnet18", model__freeze="[conv1, bn1, 'layer[123]', layer4.0]",
                                    optimizer__groups="[{match: fc, lr_factor: 10, weight_decay: 0.01}]",
                                    data__image_size=64, data__channels=3, algorithm__batch_per_worker=2,
                                    comm__algorithm="ring")).out
        self.assertRegex(out, r"(?m)^layer4.0.conv1 .*  frozen$")
        self.assertRegex(out, r"(?m)^layer4.1.conv1 .* 2359296$")
        self.assertRegex(out, r"(?m)^trained +4,721,666 parameters, and nothing else is sent; 6,455,872 are frozen, "
                              r"with the running statistics of 18 batch norms$")
        self.assertRegex(out, r"(?m)^all-reduce .* 18\.9 MB per step and rank$")

    def test_on_two_ranks(self):
        out = self.succeed("--config", "tiny_run.yaml", "--dry-run", *setting(algorithm__name="dc_s3gd"), ranks=2).out
        self.assertEqual(out.count("parameters: "), 1)
        self.assertRegex(out, r"(?m)^all-reduce .*auto: shared, fp32")
        self.assertRegex(out, r"(?m)^memory needed .* [GM]B free on \S+ \(2 ranks\)$")
        self.assertRegex(out, r"(?m)^all-reduce time +\d+\.\d ms for \d+\.\d MB; a step computes for")
        self.assertRegex(out, r"(?m)^disk needed .* free at runs \(checkpoints: 4 x")
        self.assertNotIn("time limit", out)
        self.assertEqual(self.names(), ["tiny_run.yaml"])


class Data(TrainTest):
    IDX = setting(data__format="idx", data__train="i", data__eval="i", data__image_size=28, model__classes=10)

    def write_cifar(self, records=8, label=1):
        record = bytes([label]) + bytes(range(256)) * 12
        for name in [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]:
            self.write(f"c/{name}", record * records)

    def write_black(self, part, label=3, **options):
        self.write_idx(part, bytes(16 * 28 * 28), [label] * 16, 28, **options)

    def test_real_formats_train(self):
        self.write_cifar()
        self.train(*self.CIFAR, name="cifar")
        self.write_black("train")
        self.write_black("t10k")
        self.train(*self.IDX, name="idx")
        os.rename(self.folder / "i", self.folder / "elsewhere")
        os.mkdir(self.folder / "data")
        os.rename(self.folder / "elsewhere", self.folder / "data/i")
        self.train(*self.IDX, name="with_variable", environment={"DCS3GD_DATA": str(self.folder / "data")})

    def test_missing(self):
        self.refuse_run(*self.CIFAR, says=["'c'", "DCS3GD_DATA"])
        self.refuse_run(*self.CIFAR, environment={"DCS3GD_DATA": "/nowhere"}, says=["/nowhere/c", "DCS3GD_DATA"])

    def test_truncated_cifar(self):
        self.write_cifar()
        self.write("c/data_batch_3.bin", b"\x01" * 5000)
        self.refuse_run(*self.CIFAR, says=["data_batch_3.bin", "5000 bytes"])

    def test_label_out_of_range(self):
        self.write_cifar(label=10)
        self.refuse_run(*self.CIFAR, says=["data_batch_1.bin", "label", "10"])
        self.write_black("train", label=9)
        self.write_black("t10k", label=10)
        self.refuse_run(*self.IDX, says=["t10k-labels", "label", "10"])

    def test_wrong_magic(self):
        self.write_black("train", magic=2052)
        self.write_black("t10k")
        self.refuse_run(*self.IDX, says=["train-images-idx3-ubyte", "2052"])

    def test_sizes_that_do_not_fit(self):
        self.write_cifar()
        self.refuse_run(*self.CIFAR, *setting(data__image_size=24), says="data.image_size")
        self.refuse_run(*self.CIFAR, *setting(data__channels=1), says="data.channels")
        self.refuse_run(*setting(data__image_size=4), says=["layer", "data.image_size"])

    def test_less_than_a_global_batch(self):
        self.refuse_run(*setting(algorithm__batch_per_worker=65), says=["64 images", "algorithm.batch_per_worker"])
        self.refuse_run(*setting(algorithm__batch_per_worker=40), ranks=2, says=["2 workers", "64 images"])


if __name__ == "__main__":
    main()
