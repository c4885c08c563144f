"""scripts/convert_weights.py: files made byte by byte, and, where PyTorch is there, torchvision's weights into a run and
back.

    /usr/bin/python3 convert_weights_test.py DCS3GD_TRAIN [unittest's arguments]
"""

import argparse
import io
import json
import os
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import unittest
import zipfile

from scripts_support import ScriptTest, import_script

try:
    import torch
    import torchvision
except ImportError:
    torch = None

PROGRAM = ""

CONFIG = """\
run: {epochs: 1}
model: {name: resnet18, classes: 10}
data: {format: synthetic, image_size: 32, channels: 3, synthetic: {train_images: 8, eval_images: 8}}
algorithm: {name: ssgd, batch_per_worker: 8}
"""


MODULE = import_script("convert_weights")
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(words):
    return b"X" + struct.pack("<I", len(words.encode())) + words.encode()


def numbers(values):
    return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"


def tensor(shape, strides=None, storage="FloatStorage", key="0", offset=0, count=None):
    """The instructions for a tensor, as torch.save writes them."""
    strides = strides if strides is not None else [MODULE.math.prod(shape[i + 1 :]) for i in range(len(shape))]
    count = count if count is not None else MODULE.math.prod(shape)
    return (b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key)
            + text("cpu") + numbers([count])[1:-1] + b"tQ" + numbers([offset])[1:-1] + numbers(shape) + numbers(strides)
            + b"\x89" + ORDERED_DICT + b"tR")


def a_dict(items, empty=b"}"):
    return empty + b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


class MadeByHand(ScriptTest):
    """Needs no PyTorch."""

    def pth(self, content, storages=(struct.pack("<4f", 1, 2, 3, 4),), name="a.pth", **more):
        with zipfile.ZipFile(self.folder / name, "w", more.get("compression", zipfile.ZIP_STORED)) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
            for number, storage in enumerate(storages):
                archive.writestr(f"archive/data/{number}", storage)
            archive.writestr("archive/version", "3\n")
            for extra, words in more.get("extra", {}).items():
                archive.writestr(extra, words)
        return self.folder / name

    def read(self, *arguments, **more):
        tensors, left_out = MODULE.read_pth(self.pth(*arguments, **more))
        values = {name: list(struct.unpack(f"<{t.count()}f", t.data)) for name, t in tensors.items()}
        return values, left_out

    def refused(self, words, *arguments, **more):
        with self.assertRaisesRegex(MODULE.ConversionError, words):
            self.read(*arguments, **more)

    def test_parts_within_parts_have_an_end(self):
        self.refused("holds no state_dict", b"}q\x00X\x05\x00\x00\x00modelh\x00s")  # a dict that holds itself

    def test_a_state_dict_and_the_checkpoints_of_the_field(self):
        weights = a_dict({"w": tensor([2, 2])}, ORDERED_DICT) + b"}" + text("_metadata") + b"}sb"
        namespace = b"cargparse\nNamespace\n)\x81" + a_dict({"lr": b"G" + struct.pack(">d", 0.1)}) + b"b"
        path = b"cpathlib\nPosixPath\n" + text("a") + b"\x85R"
        for content in (weights, a_dict({"model": weights, "optimizer": a_dict({"state": b"}"}), "args": namespace}),
                        a_dict({"epoch": b"K\x03", "arch": text("resnet"), "state_dict": weights, "args": path}),
                        a_dict({"args": namespace, "model": a_dict({"state_dict": weights})})):
            self.assertEqual(self.read(content), ({"w": [1, 2, 3, 4]}, []))

    def test_places_strides_and_types(self):
        content = a_dict({"turned": tensor([2, 2], [1, 2], count=4), "row": tensor([2], offset=2, count=4),
                          "spread": tensor([2, 2], [2, 0], count=4), "scalar": tensor([], count=4), "none": tensor([0, 3], count=4),
                          "kept": b"ctorch._utils\n_rebuild_parameter\n(" + tensor([1], count=4) + b"\x88" + ORDERED_DICT + b"tR"})
        self.assertEqual(self.read(content)[0], {"turned": [1, 3, 2, 4], "row": [3, 4], "spread": [1, 1, 3, 3],
                                                 "scalar": [1], "none": [], "kept": [1]})
        floats = {"HalfStorage": struct.pack("<3e", 1.5, -2.0, 6e-8), "DoubleStorage": struct.pack("<3d", 1.5, -2.0, 6e-8),
                  "BFloat16Storage": b"\xc0\x3f\x00\xc0\x80\x33"}
        for storage, data in floats.items():
            values = self.read(a_dict({"w": tensor([3], storage=storage)}), (data,))[0]["w"]
            self.assertEqual(values[:2], [1.5, -2.0])
            self.assertAlmostEqual(values[2], 6e-8, delta=1e-9)
        content = a_dict({"w": tensor([1]), "n.num_batches_tracked": tensor([], storage="LongStorage", key="1"),
                          "index": tensor([1], storage="LongStorage", key="1"), "_extra_state": b"K\x07"})
        self.assertEqual(self.read(content, (bytes(4), bytes(8))), ({"w": [0]}, ["index", "_extra_state"]))

    def test_nothing_in_a_file_is_executed(self):
        mark = self.folder / "executed"
        touch = text(f"touch {mark}") + b"\x85R"
        class Calls:  # what Python's own pickler makes of an object that wants to be called
            def __reduce__(self):
                return os.system, (f"touch {mark}",)
        for name in ("posix\nsystem", "os\nsystem", "builtins\neval", "torch.serialization\nload", "torch._utils\nos.system"):
            content = a_dict({"w": tensor([4]), "x": b"c" + name.encode() + b"\n" + touch})
            self.assertEqual(self.read(content), ({"w": [1, 2, 3, 4]}, ["x"]))
        for protocol in range(2, 6):
            calls = pickle.dumps({"state_dict": Calls()}, protocol)
            self.refused("holds an object '(posix|nt).system', not tensors", calls[2:-1])
        self.refused("the instruction b'i' at byte", b"(i" + b"posix\nsystem\n")
        self.refused("the instruction b'o' at byte", b"(o")
        self.refused("the instruction b'\\\\x82' at byte", b"\x82\x01")
        self.assertFalse(mark.exists())

    def test_what_claims_more_than_the_file_has(self):
        self.refused("does not fit its 16 bytes", a_dict({"w": tensor([5], count=4)}))
        self.refused("does not fit its 16 bytes", a_dict({"w": tensor([2, 2], [3, 1], count=4)}))
        self.refused("does not fit its 16 bytes", a_dict({"w": tensor([4], offset=1)}))
        self.refused("does not fit its 16 bytes", a_dict({"w": tensor([8])}))
        self.refused("has 16 bytes, expected at most 8", a_dict({"w": tensor([2])}))
        self.refused("bytes and more, the file", a_dict({"w": tensor([1 << 40], [0], count=4)}))
        self.refused("bytes and more, the file", a_dict({f"w{i}": tensor([4]) for i in range(3000)}, b"}") + b"0"
                     + a_dict({"w": tensor([1 << 20, 1 << 20, 1 << 20], [0, 0, 0], count=4)}))
        self.refused("damaged", a_dict({"w": tensor([-1])}))
        self.refused("damaged", a_dict({"w": tensor([2], [1, 1])}))
        self.refused("damaged archive", a_dict({"w": tensor([4], key="7")}))
        self.refused("damaged archive", a_dict({"w": tensor([4], key="../version")}))
        self.refused("compressed", a_dict({"w": tensor([4])}), compression=zipfile.ZIP_DEFLATED)
        self.refused("pickle is (cut off|damaged)", b"(X\xff\xff\xff\x7f")
        # Tuples within tuples would take 2^60 steps to hash.
        self.refused("holds no state_dict", b"}" + b")" + b"q\x000h\x00h\x00\x86q\x00" * 60 + b"K\x01s")

    def test_forms_that_are_not_read_are_named(self):
        weights = a_dict({"w": tensor([4])})
        self.refused("TorchScript", weights, extra={"archive/code/a.py": "x"})
        self.refused("big-endian", weights, extra={"archive/byteorder": "big"})
        self.refused("holds an object 'torchvision.models.resnet.ResNet'", b"ctorchvision.models.resnet\nResNet\n)\x81}b")
        self.refused("found 'epoch', 'note'", a_dict({"epoch": b"K\x03", "note": text("x")}))
        for begin, words in ((b"\x80\x02\x8a\nl\xfc\x9cF", "before version 1.6"), (bytes(257) + b"ustar", "before version 0.2"),
                             (struct.pack("<Q", 2) + b"{}", "a safetensors file, it seems"), (b"", "neither"), (b"GIF8", "neither")):
            (self.folder / "b.pth").write_bytes(begin)
            self.assertIn(words, self.run_script("convert_weights.py", "b.pth", "c.safetensors", code=2)[1])
        whole = self.pth(weights).read_bytes()
        for length in range(0, len(whole), 7):
            (self.folder / "a.pth").write_bytes(whole[:length])
            with self.assertRaises(MODULE.ConversionError):
                MODULE.read_pth(self.folder / "a.pth")

    def test_names_that_no_tensor_has_and_files_without_tensors(self):
        for name in ("", "a\nb", "\x1b[2J", "\u202e", "__metadata__", "\udc80"):
            header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
            (self.folder / "odd.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
            sources = ["odd.safetensors"] if name != "__metadata__" else []
            if name != "\udc80":  # no pickle's text
                sources.append(self.pth(a_dict({name: tensor([1])}), (bytes(4),)).name)
            for source in sources:
                with self.subTest(source, name=name):
                    said = self.run_script("convert_weights.py", source, "to.safetensors", code=2)[1]
                    self.assertIn(f"{source}: {name!r} cannot be the name of a tensor", said)
        for words, content in (("holds no state_dict", b"}"), ("holds no tensors of floats", a_dict({"a.num_batches_tracked": tensor([1])})),
                               ("holds no tensors of floats", a_dict({"a": tensor([1], storage="LongStorage")}))):
            self.pth(content, (bytes(4),))
            self.assertIn(words, self.run_script("convert_weights.py", "a.pth", "to.safetensors", code=2)[1])
        said = self.run_script("convert_weights.py", self.pth(a_dict({"w": tensor([1], key="\x1b[2J")})).name, "to.safetensors", code=2)[1]
        self.assertNotIn("\x1b", said)
        self.assertFalse((self.folder / "to.safetensors").exists())

    def test_wrappers_and_types_are_said(self):
        self.pth(a_dict({"model.module.w": tensor([2], storage="HalfStorage"), "model.module.b": tensor([1], key="1")}),
                 (struct.pack("<2e", 1, 2), struct.pack("<f", 3)))
        out, _ = self.run_script("convert_weights.py", "a.pth", "a.safetensors")
        for words in ("'model.module.' taken off all names", "1 tensors of F16 became F32, the same numbers", "2 tensors, 3 numbers"):
            self.assertIn(words, out)
        self.assertEqual(list(MODULE.read_safetensors(self.folder / "a.safetensors")[0]), ["w", "b"])
        self.assertEqual([path.name for path in self.folder.glob("*.tmp")], [])

    def test_safetensors_to_safetensors_and_what_is_refused_of_them(self):
        def write(header, data):
            words = json.dumps(header).encode()
            (self.folder / "h.safetensors").write_bytes(struct.pack("<Q", len(words)) + words + data)

        whole = {"__metadata__": {"dcs3gd.card": "{}"}, "w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
                 "v": {"dtype": "F64", "shape": [], "data_offsets": [4, 12]}}
        write(whole, b"\xc0\x3f\x00\xc0" + struct.pack("<d", 0.25))
        out, _ = self.run_script("convert_weights.py", "h.safetensors", "f.safetensors")
        self.assertIn("1 tensors of F64 became F32, rounded", out)
        tensors, _, metadata = MODULE.read_safetensors(self.folder / "f.safetensors")
        self.assertEqual({name: t.data for name, t in tensors.items()},
                         {"w": struct.pack("<2f", 1.5, -2), "v": struct.pack("<f", 0.25)})
        self.assertEqual(metadata["dcs3gd.card"], "{}")
        for offsets, words in (([0, 8], "begins at byte"), ([8, 16], "begins at byte"), ([4, 8], "4 bytes for the shape")):
            write({**whole, "v": {**whole["v"], "data_offsets": offsets}}, bytes(16))
            self.assertIn(words, self.run_script("convert_weights.py", "h.safetensors", "b.pth", code=2)[1])
        write(whole, bytes(16))
        self.assertIn("describes 12 bytes", self.run_script("convert_weights.py", "h.safetensors", "b.pth", code=2)[1])
        self.assertFalse((self.folder / "b.pth").exists())

    def test_files_cut_off_anywhere(self):
        path = self.folder / "a.safetensors"
        with open(path, "wb") as file:
            MODULE.write_safetensors(file, {"x": MODULE.Tensor([2, 3], "F32", struct.pack("<6f", *range(6))),
                                            "scalar": MODULE.Tensor([], "F32", struct.pack("<f", 2))})
        tensors = MODULE.read_safetensors(path)[0]
        self.assertEqual(struct.unpack("<6f", tensors["x"].data), (0, 1, 2, 3, 4, 5))
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with self.assertRaisesRegex(MODULE.ConversionError, "cut off|not a whole", msg=length):
                MODULE.read_safetensors(path)

    def test_files_damaged_at_random(self):
        random.seed(1)
        # The pickle is damaged before it gets its checksum.
        content = a_dict({"state_dict": a_dict({"w": tensor([2, 2]), "v": tensor([4], storage="HalfStorage", key="1")})})
        storages = (bytes(16), bytes(8))
        header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        path = self.folder / "a.safetensors"
        for name, whole, read in (
                ("pickle", content, lambda damaged: MODULE.read_pth(self.pth(damaged, storages))),
                ("archive", self.pth(content, storages).read_bytes(),
                 lambda damaged: (path.write_bytes(damaged), MODULE.read_pth(path))),
                ("safetensors", struct.pack("<Q", len(header)) + header + bytes(8),
                 lambda damaged: (path.write_bytes(damaged), MODULE.read_safetensors(path)))):
            for number in range(1000):
                damaged = bytearray(whole)
                for _ in range(random.choice((1, 1, 2, 8))):
                    damaged[random.randrange(len(whole))] = random.choice((random.randrange(256), *b"(}].tusRQcXK)\x85\x00\xff"))
                try:
                    read(bytes(damaged))
                except MODULE.ConversionError:
                    pass
                except Exception as error:
                    raise AssertionError(f"{name} {number}: {bytes(damaged)!r}") from error

    def test_what_is_written_is_read_again(self):
        file = io.BytesIO()
        MODULE.write_pth(file, {"bn.running_var": MODULE.Tensor([2], "F32", struct.pack("<2f", 1, 2)),
                                "w": MODULE.Tensor([1, 2], "F32", struct.pack("<2f", 3, 4))})
        (self.folder / "w.pth").write_bytes(file.getvalue())
        tensors, left_out = MODULE.read_pth(self.folder / "w.pth")
        self.assertEqual({name: (t.shape, t.data) for name, t in tensors.items()},
                         {"bn.running_var": ((2,), struct.pack("<2f", 1, 2)), "w": ((1, 2), struct.pack("<2f", 3, 4))})
        self.assertEqual(left_out, [])


@unittest.skipIf(torch is None, "PyTorch or torchvision is missing")
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

    def test_files_of_other_programs(self):
        model = torchvision.models.resnet18(num_classes=3)
        weights = model.state_dict()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        half = {f"module.{name}": value.half() for name, value in weights.items()}
        arguments = argparse.Namespace(data=pathlib.Path("x"), lr=0.1)
        contents = {"references": {"model": weights, "optimizer": optimizer.state_dict(), "epoch": 3, "args": arguments},
                    "timm": {"epoch": 3, "arch": "resnet18", "state_dict": half, "args": arguments},
                    "turned": model.to(memory_format=torch.channels_last).state_dict()}
        for name, content in contents.items():
            self.save("a.pth", content)
            self.convert("a.pth", "a.safetensors")
            self.convert("a.safetensors", "b.pth")
            back = self.load("b.pth")
            for key, value in weights.items():
                expected = value.half().float() if name == "timm" else value
                self.assertTrue(torch.equal(back[key], expected.to(back[key].dtype)), f"{name} {key}")
        self.save("old.pth", None)
        torch.save(weights, self.folder / "old.pth", _use_new_zipfile_serialization=False)
        self.assertIn("before version 1.6", self.convert("old.pth", "b.safetensors", code=2)[1])
        torch.save(model, self.folder / "whole.pth")
        self.assertIn("ResNet', not tensors; save model.state_dict()", self.convert("whole.pth", "b.safetensors", code=2)[1])

    def test_refusals(self):
        self.save("a.pth", {"x": torch.ones(3)})
        self.write("text.safetensors", "no tensors at all")
        for source, target, words in (("a.pth", "b.pth", "must end in .safetensors"),
                                      ("missing.pth", "b.safetensors", "missing.pth"),
                                      ("text.safetensors", "b.pth", "not a safetensors file, or cut off")):
            self.assertIn(words, self.convert(source, target, code=2)[1])
        self.assertIn("cannot write", self.convert("a.pth", "missing/b.safetensors", code=1)[1])
        self.assertEqual(list(self.folder.glob("b.*")), [])


if __name__ == "__main__":
    PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
