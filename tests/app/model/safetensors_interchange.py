"""Exchanges safetensors files with a reader and a writer made from the format's description alone, with NumPy.

Usage: safetensors_interchange.py PATH/TO/safetensors_interchange
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("skipped: python3-numpy is not installed")
    sys.exit(77)

SHAPES = {
    "conv1.weight": (4, 3, 3, 3),
    "bn1.weight": (4,),
    "fc.bias": (10,),
    "bn1.running_mean": (4,),
    "bn1.running_var": (4,),
}


def expected_tensors():
    tensors, begin = {}, 0
    for name, shape in SHAPES.items():
        count = int(np.prod(shape))
        index = np.arange(begin, begin + count, dtype=np.float32)
        tensors[name] = (index / np.float32(3) - np.float32(5)).reshape(shape)
        begin += count
    return tensors


def read(path):
    content = path.read_bytes()
    data_begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data_begin])
    data = content[data_begin:]
    metadata = header.pop("__metadata__")
    tensors, covered = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32" and begin == covered, (name, entry)
        tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
        covered = end
    assert covered == len(data) and data_begin % 8 == 0
    return tensors, metadata


def write(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        dtype = {"float32": "F32", "int64": "I64"}[tensor.dtype.name]
        raw = tensor.tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header, indent=1).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def main():
    tool = sys.argv[1]
    expected = expected_tensors()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"

        subprocess.run([tool, "write", path], check=True)
        found, metadata = read(path)
        assert metadata == {"format": "pt"}, metadata
        assert found.keys() == expected.keys(), found.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(found[name], tensor, err_msg=name)

        # In another order, and with a tensor that only PyTorch has.
        exported = dict(reversed(expected.items()))
        exported["bn1.num_batches_tracked"] = np.array(7, dtype=np.int64)
        write(path, exported)
        subprocess.run([tool, "read", path], check=True)

        # The check can fail: one wrong element is noticed.
        exported["fc.bias"] = exported["fc.bias"] + np.float32(1)
        write(path, exported)
        assert subprocess.run([tool, "read", path], stderr=subprocess.DEVNULL).returncode == 1
    print("both directions agree")


main()
