"""scripts/convert_weights.py: torchvision's weights into a run and back. Exit code 77: skipped with a reason.

    /usr/bin/python3 convert_weights_test.py DCS3GD_TRAIN [unittest's arguments]
"""

import collections
import os
import pathlib
import subprocess
import sys
import unittest

from scripts_support import ScriptTest, import_script

try:
    import torch
    import torchvision
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

PROGRAM = ""

CONFIG = """\
run: {epochs: 1}
model: {name: resnet18, classes: 10}
data: {format: synthetic, image_size: 32, channels: 3, synthetic: {train_images: 8, eval_images: 8}}
algorithm: {name: ssgd, batch_per_worker: 8}
"""


class ConvertWeights(ScriptTest):
    def convert(self, *files, code=0):
        return self.run_script("convert_weights.py", *files, code=code)

    def save(self, name, content):
        torch.save(content, self.folder / name)

    def load(self, name):
        return torch.load(self.folder / name)

    def dcs3gd_train(self, *arguments):
        self.write("tiny.yaml", CONFIG)
        result = subprocess.run([PROGRAM, "--config", "tiny.yaml", *arguments], cwd=self.folder, capture_output=True,
                                encoding="utf-8", timeout=120, check=False,
                                env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"})
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def test_there_and_back(self):
        model = torchvision.models.resnet18(num_classes=10)
        self.save("a.pth", model.state_dict())
        self.convert("a.pth", "a.safetensors")
        out, _ = self.convert("a.safetensors", "b.pth")
        self.assertIn("102 tensors", out)
        back = self.load("b.pth")
        self.assertEqual(list(back), list(model.state_dict()), "strict loading finds all names, in order")
        self.assertTrue(all(torch.equal(value, back[name]) for name, value in model.state_dict().items()))

    def test_the_trainer_takes_them_and_gives_them_back(self):
        """Through a run whose steps are too small to change anything."""
        torch.manual_seed(1)
        model = torchvision.models.resnet18(num_classes=10)
        self.save("a.pth", model.state_dict())
        self.convert("a.pth", "a.safetensors")
        first = self.dcs3gd_train("--eval", "a.safetensors")
        self.assertRegex(first, r"top-1 .* \(8 images\)")
        self.dcs3gd_train("--set", "model.init=a.safetensors", "--set", "optimizer.lr.base=1e-30")
        self.convert("runs/tiny/model.safetensors", "b.pth")
        trained = torchvision.models.resnet18(num_classes=10)
        trained.load_state_dict(self.load("b.pth"))
        for name, value in model.named_parameters():
            self.assertTrue(torch.allclose(value, dict(trained.named_parameters())[name], rtol=0, atol=1e-20), name)

    def test_checkpoints_prefixes_and_types(self):
        weights = collections.OrderedDict([("module.fc.weight", torch.tensor([[1.5, 2.5]], dtype=torch.float16)),
                                           ("module.bn.num_batches_tracked", torch.tensor(7)),
                                           ("module.fc.bias", torch.tensor([0.25], dtype=torch.float64))])
        for part in ("state_dict", "model", "model_state_dict"):
            self.save("c.pth", {"epoch": 3, part: weights})
            self.convert("c.pth", "c.safetensors")
            self.convert("c.safetensors", "d.pth")
            back = self.load("d.pth")
            self.assertEqual({name: value.tolist() for name, value in back.items()},
                             {"fc.weight": [[1.5, 2.5]], "fc.bias": [0.25]})
            self.assertEqual({value.dtype for value in back.values()}, {torch.float32})

    def test_refusals(self):
        self.save("a.pth", {"x": torch.ones(3)})
        self.save("number.pth", {"x": 3})
        self.save("code.pth", {"x": pathlib.PurePosixPath("a")})
        self.write("text.pth", "no archive")
        self.write("text.safetensors", "no tensors at all")
        for source, target, words in (("a.pth", "b.pth", "must end in .safetensors"),
                                      ("missing.pth", "b.safetensors", "missing.pth"),
                                      ("number.pth", "b.safetensors", "x is no tensor"),
                                      ("code.pth", "b.safetensors", "not a file of tensors alone"),
                                      ("text.pth", "b.safetensors", "not a file of tensors alone"),
                                      ("text.safetensors", "b.pth", "not a safetensors file, or cut off")):
            self.assertIn(words, self.convert(source, target, code=2)[1])
        self.assertIn("cannot write", self.convert("a.pth", "missing/b.safetensors", code=1)[1])
        self.assertEqual(list(self.folder.glob("b.*")), [])

    def test_files_cut_off_anywhere(self):
        module, path = import_script("convert_weights"), self.folder / "a.safetensors"
        module.write_safetensors(path, {"x": torch.arange(6.0).reshape(2, 3), "scalar": torch.tensor(2.0)})
        tensors = module.read_safetensors(path)
        self.assertEqual((tensors["x"].tolist(), tensors["scalar"].item()), ([[0, 1, 2], [3, 4, 5]], 2))
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with self.assertRaisesRegex(module.ConversionError, "cut off|not a whole", msg=length):
                module.read_safetensors(path)


if __name__ == "__main__":
    PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
