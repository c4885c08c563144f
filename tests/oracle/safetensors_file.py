"""Weights by name in safetensors files, written and read by the format's description."""

import json

import numpy as np


def read(path):
    content = path.read_bytes()
    data_begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data_begin])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", (name, entry)
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(content[data_begin + begin : data_begin + end], "<f4").reshape(entry["shape"])
    return tensors


def write(path, tensors):
    header, data = {}, []
    begin = 0
    for name, values in tensors.items():
        data.append(values.astype("<f4").tobytes())
        end = begin + len(data[-1])
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))
