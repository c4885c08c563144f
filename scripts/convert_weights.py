#!/usr/bin/python3
"""Converts weights between PyTorch's .pth and the .safetensors of dcs3gd-train. Needs python3-torch.

    scripts/convert_weights.py resnet50.pth resnet50.safetensors      for model.init
    scripts/convert_weights.py runs/x/best.safetensors x.pth          for model.load_state_dict(torch.load("x.pth"))

Of a training checkpoint the part called state_dict, model_state_dict or model is taken; a leading "module." of
DistributedDataParallel goes. Everything becomes fp32. num_batches_tracked, which dcs3gd-train has no use for, is left
out in one direction and added as 0 in the other. Pickled code in a .pth file is not executed.

Exit codes: 0 done, 1 the file cannot be written, 2 usage or a file that cannot be read.
"""

import argparse
import json
import struct
import sys
from collections import OrderedDict
from pathlib import Path

MOST_HEADER_BYTES = 100_000_000  # as the format's reference implementation
PARTS = ("state_dict", "model_state_dict", "model")
COUNTER = "num_batches_tracked"


class ConversionError(Exception):
    """The input cannot be converted; the message says why."""


def read_pth(path):
    """name -> fp32 tensor, in the order of the file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what the pickle, the archive or the file system raises
        raise ConversionError(f"{path}: not a file of tensors alone: {' '.join(str(error).split())[:300]}") from error
    for part in PARTS:
        if isinstance(content, dict) and isinstance(content.get(part), dict):
            content = content[part]
    if not isinstance(content, dict) or not content:
        raise ConversionError(f"{path}: holds no state_dict")
    tensors = OrderedDict()
    for name, tensor in content.items():
        if not isinstance(tensor, torch.Tensor):
            raise ConversionError(f"{path}: {name} is no tensor; expected a state_dict")
        name = name.removeprefix("module.")
        if name.rpartition(".")[2] != COUNTER:
            tensors[name] = tensor.to(torch.float32).contiguous()
    return tensors


def read_safetensors(path):
    """The same of a .safetensors file; every number is checked before it is used."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConversionError(f"{path}: {error.strerror}") from error
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MOST_HEADER_BYTES, len(content) - 8):
        raise ConversionError(f"{path}: not a safetensors file, or cut off")
    data = content[8 + length:]
    try:
        entries = json.loads(content[8:8 + length])
        entries.pop("__metadata__", None)
        places = {name: (entry["dtype"], entry["shape"], *entry["data_offsets"]) for name, entry in entries.items()}
        tensors = OrderedDict()
        for name, (dtype, shape, begin, end) in sorted(places.items(), key=lambda item: item[1][2]):
            if dtype not in TYPES:
                raise ConversionError(f"{path}: {name} has type {dtype}, expected one of {', '.join(TYPES)}")
            if not 0 <= begin <= end <= len(data):
                raise ConversionError(f"{path}: {name} lies outside the file: it is cut off")
            tensor = torch.frombuffer(bytearray(data[begin:end]), dtype=TYPES[dtype]) if end > begin else torch.empty(0)
            tensors[name] = tensor.reshape(shape).to(torch.float32)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ConversionError(f"{path}: not a whole safetensors file: {error}") from error
    return tensors


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        size = 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.numpy().astype("<f4").tobytes())


def write_pth(path, tensors):
    state = OrderedDict()
    for name, tensor in tensors.items():
        state[name] = tensor
        if name.rpartition(".")[2] == "running_var":
            state[f"{name.rpartition('.')[0]}.{COUNTER}"] = torch.tensor(0)
    torch.save(state, path)


def convert(source, target):
    """Returns the tensors."""
    kinds = [Path(path).suffix == ".safetensors" for path in (source, target)]
    if kinds[0] == kinds[1]:
        raise ConversionError("one of the two files must end in .safetensors, the other in .pth or .pt")
    tensors = read_safetensors(source) if kinds[0] else read_pth(source)
    temporary = Path(f"{target}.tmp")
    try:
        (write_pth if kinds[0] else write_safetensors)(temporary, tensors)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return tensors


def main():
    parser = argparse.ArgumentParser(prog="convert_weights.py",
                                     description="Converts weights between .pth and .safetensors.")
    parser.add_argument("source", metavar="FROM")
    parser.add_argument("target", metavar="TO")
    arguments = parser.parse_args()
    if torch is None:
        print("convert_weights.py: error: PyTorch is missing: apt-get install python3-torch", file=sys.stderr)
        return 2
    try:
        tensors = convert(arguments.source, arguments.target)
    except ConversionError as error:
        print(f"convert_weights.py: error: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError) as error:
        print(f"convert_weights.py: error: cannot write {arguments.target}: {error}", file=sys.stderr)
        return 1
    count = sum(tensor.numel() for tensor in tensors.values())
    print(f"convert_weights.py: {arguments.target}: {len(tensors)} tensors, {count:,} numbers")
    return 0


try:
    import torch

    TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
except ImportError:
    torch = None

if __name__ == "__main__":
    sys.exit(main())
