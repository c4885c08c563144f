#!/usr/bin/python3
"""Converts weights between PyTorch's .pth and the .safetensors of dcs3gd-train. Needs Python alone, no PyTorch.

    scripts/convert_weights.py resnet50.pth resnet50.safetensors      for model.init
    scripts/convert_weights.py runs/x/best.safetensors x.pth          for model.load_state_dict(torch.load("x.pth"))
    scripts/convert_weights.py half.safetensors whole.safetensors     to fp32

Of a training checkpoint the part called state_dict, model_state_dict, model or net is taken. "module.", "model." and
"_orig_mod.", which wrappers put before all names, go. Everything becomes fp32: fp16 and bf16 the same numbers, fp64 the
nearest. num_batches_tracked, which dcs3gd-train has no use for, is left out in one direction and added as 0 in the
other; so is what is no tensor of floats. All of this is said.

Nothing in a file is executed: a .pth file is a zip archive with a pickle, a program for a machine that can call
anything; here that machine knows a closed list of instructions, and builds dicts, lists, numbers, text and tensors.
Whatever else the file asks for becomes a mark that can do nothing.

Exit codes: 0 done, 1 the file cannot be written, 2 usage or a file that cannot be read.
"""

import argparse
import collections
import json
import math
import os
import pickle
import struct
import sys
import zipfile
from array import array
from pathlib import Path

from output_file import output_file

PROGRAM = Path(sys.argv[0]).name  # convert_weights.py, or dcs3gd-convert-weights where it is installed
MOST_HEADER_BYTES = 100_000_000  # as safetensors' reference implementation; of a pickle too
MOST_GROWTH = 8  # bytes of fp32 for one of the file, beyond which tensors that share their numbers are a trap
DEEPEST = 8  # parts within parts
PARTS = ("state_dict", "model_state_dict", "model", "net")
WRAPPERS = ("module.", "model.", "_orig_mod.")
COUNTER = "num_batches_tracked"
METADATA = "__metadata__"  # in a safetensors header, where all else are tensors
FLOAT_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
STORAGES = {"HalfStorage": "F16", "BFloat16Storage": "BF16", "FloatStorage": "F32", "DoubleStorage": "F64",
            "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
            "BoolStorage": "BOOL"}


class ConversionError(Exception):
    """The input cannot be converted; the message says why."""


class Tensor:
    """Its numbers are little-endian fp32; `kind` is the type they had in the file."""

    def __init__(self, shape, kind, data):
        self.shape, self.kind, self.data = tuple(shape), kind, data

    def count(self):
        return math.prod(self.shape)


# --- floats ---


def to_fp32(kind, data):
    """Little-endian fp32 of little-endian floats."""
    if kind == "F32":
        return bytes(data)
    if kind == "BF16":  # the upper half of an fp32
        whole = bytearray(2 * len(data))
        whole[2::4], whole[3::4] = data[0::2], data[1::2]
        return bytes(whole)
    letter, result, step = {"F16": "e", "F64": "d"}[kind], array("f"), FLOAT_BYTES[kind] << 20
    for begin in range(0, len(data), step):
        part = data[begin : begin + step]
        result.extend(struct.unpack(f"<{len(part) // FLOAT_BYTES[kind]}{letter}", part))
    if sys.byteorder == "big":
        result.byteswap()
    return result.tobytes()


# --- .pth ---


class Foreign:
    """Something in a pickle that is not looked into: it can be called, filled and kept, and does nothing."""

    def __init__(self, name):
        self.name = name


class Mark:
    """Where a tuple, list or dict in a pickle begins."""


class View:
    """A tensor of a pickle: where its numbers lie."""

    def __init__(self, storage, offset, shape, strides):
        self.kind, self.key, self.storage_count = storage
        self.offset, self.shape, self.strides = offset, shape, strides


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


class Unpickler:
    """Runs a pickle, of protocols 2 to 5, on a closed list of instructions."""

    def __init__(self, text):
        self.text, self.at, self.stack, self.memo = text, 0, [], {}

    def run(self):
        try:
            while True:
                code = self.take(1)
                if code == pickle.STOP:
                    return self.stack.pop()
                act = self.ACTIONS.get(code)
                if act is None:
                    raise ConversionError(f"the instruction {code!r} at byte {self.at - 1} of its pickle is none that weights need")
                act(self)
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
            raise ConversionError(f"its pickle is damaged at byte {self.at}: {type(error).__name__}") from error

    # What the instructions are made of.

    def take(self, count):
        if count > len(self.text) - self.at:
            raise ConversionError("its pickle is cut off")
        self.at += count
        return self.text[self.at - count : self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def line(self):
        return self.take(self.text.index(b"\n", self.at) + 1 - self.at)[:-1].decode()

    def push(self, value):
        self.stack.append(value)

    def since_mark(self):
        place = len(self.stack) - 1
        while place >= 0 and self.stack[place] is not Mark:
            place -= 1
        items = self.stack[place + 1 :]
        if place < 0:
            raise IndexError
        del self.stack[place:]
        return items

    def put(self, target, items):
        """Keys of other kinds than text and numbers are not needed, and may take for ever to hash."""
        if isinstance(target, dict):
            target.update((key, value) for key, value in zip(items[::2], items[1::2]) if isinstance(key, (str, int)))

    def extend(self, items):
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def tuple_of(self, count):
        if count > len(self.stack):
            raise IndexError
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.push(items)

    def stack_global(self):
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError
        self.push(Foreign(f"{module}.{name}"))

    def call(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        self.push(self.result_of(function.name if isinstance(function, Foreign) else "", arguments))

    def result_of(self, name, arguments):
        if name == "collections.OrderedDict" and isinstance(arguments, tuple):
            return collections.OrderedDict()
        if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            storage, offset, shape, strides = arguments[:4]
            if not isinstance(storage, tuple) or not is_count(offset) or len(shape) != len(strides) or len(shape) > 64:
                raise ValueError
            if not all(map(is_count, (*shape, *strides))):
                raise ValueError
            return View(storage, offset, shape, strides)
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return arguments[0]
        return Foreign(name)

    def build(self):
        """The state of an object: of no interest, but that of a tensor must not replace it."""
        self.stack.pop()
        if not self.stack:
            raise IndexError

    def persistent(self):
        """("storage", type, key, place, count): the numbers of tensors, in a file of their own."""
        what, kind, key, _, count = self.stack.pop()[:5]
        if what != "storage" or not isinstance(key, str) or not is_count(count):
            raise ValueError
        module, _, name = kind.name.rpartition(".")
        self.push((STORAGES.get(name, name) if module == "torch" else kind.name, key, count))

    def text_of(self, form, decode=True):
        text = self.take(self.number(form))
        self.push(text.decode("utf-8", "surrogatepass") if decode else text)

    def set_item(self):
        value, key = self.stack.pop(), self.stack.pop()
        self.put(self.stack[-1], (key, value))

    def set_items(self):
        items = self.since_mark()
        self.put(self.stack[-1], items)

    def append(self):
        value = self.stack.pop()
        self.extend([value])

    def appends(self):
        items = self.since_mark()
        self.extend(items)

    def dict_of(self):
        items = self.since_mark()
        self.push({})
        self.put(self.stack[-1], items)

    def long_of(self, form):
        count = self.number(form)
        if count > 64:
            raise ValueError
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    ACTIONS = {
        pickle.PROTO: lambda self: self.take(1),
        pickle.FRAME: lambda self: self.take(8),
        pickle.MARK: lambda self: self.push(Mark),
        pickle.POP: lambda self: self.stack.pop(),
        pickle.POP_MARK: lambda self: self.since_mark(),
        pickle.NONE: lambda self: self.push(None),
        pickle.NEWTRUE: lambda self: self.push(True),
        pickle.NEWFALSE: lambda self: self.push(False),
        pickle.BININT: lambda self: self.push(self.number("i")),
        pickle.BININT1: lambda self: self.push(self.number("B")),
        pickle.BININT2: lambda self: self.push(self.number("H")),
        pickle.LONG1: lambda self: self.long_of("B"),
        pickle.LONG4: lambda self: self.long_of("I"),
        pickle.BINFLOAT: lambda self: self.push(struct.unpack(">d", self.take(8))[0]),
        pickle.BINUNICODE: lambda self: self.text_of("I"),
        pickle.SHORT_BINUNICODE: lambda self: self.text_of("B"),
        pickle.BINUNICODE8: lambda self: self.text_of("Q"),
        pickle.BINSTRING: lambda self: self.text_of("I", decode=False),
        pickle.SHORT_BINSTRING: lambda self: self.text_of("B", decode=False),
        pickle.BINBYTES: lambda self: self.text_of("I", decode=False),
        pickle.SHORT_BINBYTES: lambda self: self.text_of("B", decode=False),
        pickle.BINBYTES8: lambda self: self.text_of("Q", decode=False),
        pickle.EMPTY_TUPLE: lambda self: self.push(()),
        pickle.TUPLE1: lambda self: self.tuple_of(1),
        pickle.TUPLE2: lambda self: self.tuple_of(2),
        pickle.TUPLE3: lambda self: self.tuple_of(3),
        pickle.TUPLE: lambda self: self.push(tuple(self.since_mark())),
        pickle.EMPTY_LIST: lambda self: self.push([]),
        pickle.EMPTY_SET: lambda self: self.push([]),
        pickle.LIST: lambda self: self.push(self.since_mark()),
        pickle.FROZENSET: lambda self: self.push(self.since_mark()),
        pickle.APPEND: lambda self: self.append(),
        pickle.APPENDS: lambda self: self.appends(),
        pickle.ADDITEMS: lambda self: self.appends(),
        pickle.EMPTY_DICT: lambda self: self.push({}),
        pickle.DICT: lambda self: self.dict_of(),
        pickle.SETITEM: lambda self: self.set_item(),
        pickle.SETITEMS: lambda self: self.set_items(),
        pickle.BINPUT: lambda self: self.memo.__setitem__(self.number("B"), self.stack[-1]),
        pickle.LONG_BINPUT: lambda self: self.memo.__setitem__(self.number("I"), self.stack[-1]),
        pickle.MEMOIZE: lambda self: self.memo.__setitem__(len(self.memo), self.stack[-1]),
        pickle.BINGET: lambda self: self.push(self.memo[self.number("B")]),
        pickle.LONG_BINGET: lambda self: self.push(self.memo[self.number("I")]),
        pickle.GLOBAL: lambda self: self.push(Foreign(f"{self.line()}.{self.line()}")),
        pickle.STACK_GLOBAL: lambda self: self.stack_global(),
        pickle.REDUCE: lambda self: self.call(),
        pickle.NEWOBJ: lambda self: self.call(),
        pickle.BUILD: lambda self: self.build(),
        pickle.BINPERSID: lambda self: self.persistent(),
    }


class Archive:
    """The zip archive of a .pth file."""

    def __init__(self, path):
        self.zip = zipfile.ZipFile(path)
        tops = {name.split("/")[0] for name in self.zip.namelist() if name.endswith("/data.pkl")}
        if len(tops) != 1:
            raise ConversionError("a zip archive, but not of PyTorch: it holds no data.pkl")
        self.top = tops.pop()
        self.last_storage = (None, b"")
        if any(name.startswith(f"{self.top}/code/") for name in self.zip.namelist()):
            raise ConversionError("a TorchScript program; save the state_dict of its model")

    def read(self, name, most):
        entry = self.zip.getinfo(f"{self.top}/{name}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ConversionError(f"{name} in it is compressed, which PyTorch does not do")
        if entry.file_size > most:
            raise ConversionError(f"{name} in it has {entry.file_size} bytes, expected at most {most}")
        return self.zip.read(entry)

    def content(self):
        if f"{self.top}/byteorder" in self.zip.namelist() and self.read("byteorder", 64).strip() != b"little":
            raise ConversionError("written by a big-endian machine")
        return Unpickler(self.read("data.pkl", MOST_HEADER_BYTES)).run()

    def tensor(self, view):
        """The numbers of a view, in the order of its indices. Views of one storage mostly follow each other."""
        size = FLOAT_BYTES[view.kind]
        if self.last_storage[0] != view.key:
            self.last_storage = (view.key, self.read(f"data/{view.key}", view.storage_count * size))
        storage = self.last_storage[1]
        count = math.prod(view.shape)
        end = view.offset + sum((n - 1) * stride for n, stride in zip(view.shape, view.strides)) + 1 if count else 0
        if len(storage) != view.storage_count * size or end > view.storage_count:
            raise ConversionError(f"a tensor of the shape {list(view.shape)} does not fit its {len(storage)} bytes: "
                                  "it is cut off or damaged")
        return Tensor(view.shape, view.kind, to_fp32(view.kind, gathered(storage, size, view) if count else b""))


def gathered(storage, size, view):
    """The bytes of the elements of a view that has some."""
    dims = [(n, stride) for n, stride in zip(view.shape, view.strides) if n != 1] or [(1, 1)]
    while len(dims) > 1 and dims[-2][1] == dims[-1][0] * dims[-1][1]:  # two that are one row
        (outer, _), (inner, stride) = dims[-2:]
        dims[-2:] = [(outer * inner, stride)]
    *outer_dims, (length, step) = dims
    firsts = [view.offset]
    for n, stride in outer_dims:
        firsts = [first + index * stride for first in firsts for index in range(n)]
    elements = memoryview(storage).cast({2: "H", 4: "I", 8: "Q"}[size])
    if step == 0:
        return b"".join(elements[first : first + 1].tobytes() * length for first in firsts)
    return b"".join(elements[first : first + (length - 1) * step + 1 : step].tobytes() for first in firsts)


def read_pth(path):
    """name -> Tensor, in the order of the file, and what was left out."""
    try:
        with open(path, "rb") as file:
            begin = file.read(512)
        if begin[:4] != b"PK\3\4":
            raise ConversionError(kind_of(begin))
        archive = Archive(path)
        return tensors_of(archive, archive.content(), os.path.getsize(path))
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error
    except OSError as error:
        raise ConversionError(f"{path}: {error.strerror}") from error
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ConversionError(f"{path}: a damaged archive, or cut off: {' '.join(str(error).split())[:200]}") from error


def kind_of(begin):
    """What a file is that is no zip archive, by its first bytes."""
    again = 'load it with PyTorch and write it anew: torch.save(torch.load(FROM), TO)'
    if begin[:1] == b"\x80":
        return f"a pickle as PyTorch wrote them before version 1.6; {again}"
    if begin[257:262] == b"ustar":
        return f"a tar archive as PyTorch wrote them before version 0.2; {again}"
    if begin[8:9] == b"{":
        return "a safetensors file, it seems; name it .safetensors"
    return "neither a .pth file of PyTorch nor a safetensors file"


def tensors_of(archive, content, file_bytes):
    names = []
    for _ in range(DEEPEST):
        if not isinstance(content, dict) or any(isinstance(value, View) for value in content.values()):
            break
        part = next((part for part in PARTS if isinstance(content.get(part), (dict, Foreign))), None)
        if part is None:
            break
        names.append(part)
        content = content[part]
    if isinstance(content, Foreign):
        raise ConversionError(f"holds an object {content.name[:200]!r}, not tensors; save model.state_dict()")
    if not isinstance(content, dict) or not any(isinstance(value, View) for value in content.values()):
        found = ", ".join(repr(key)[:50] for key in list(content)[:10]) if isinstance(content, dict) else "something else"
        raise ConversionError(f"holds no state_dict: expected names of tensors, or one of {', '.join(PARTS)}; found {found}")
    tensors, left_out = {}, []
    total = 0
    for name, view in content.items():
        if not isinstance(name, str) or not isinstance(view, View) or view.kind not in FLOAT_BYTES:
            left_out.append(str(name)[:100])
            continue
        total += 4 * math.prod(view.shape)
        if total > MOST_GROWTH * file_bytes:
            raise ConversionError(f"its tensors have {total} bytes and more, the file {file_bytes}")
        tensors[name] = archive.tensor(view)
    return tensors, [name for name in left_out if name.rpartition(".")[2] != COUNTER]


# --- .safetensors ---


def read_safetensors(path):
    """The same of a .safetensors file, and its metadata; every number is checked before it is used."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConversionError(f"{path}: {error.strerror}") from error
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MOST_HEADER_BYTES, len(content) - 8):
        raise ConversionError(f"{path}: not a safetensors file, or cut off")
    data = content[8 + length :]
    tensors, left_out, end_before = {}, [], 0
    try:
        entries = json.loads(content[8 : 8 + length])
        metadata = {str(key): str(text) for key, text in entries.pop(METADATA, {}).items()}
        places = [(*entry["data_offsets"], name, entry["dtype"], entry["shape"]) for name, entry in entries.items()]
        for begin, end, name, kind, shape in sorted(places, key=lambda place: place[:2]):
            if begin != end_before or end < begin:
                raise ConversionError(f"{path}: {name!r} begins at byte {begin}, what comes before ends at {end_before}")
            end_before = end
            if kind not in FLOAT_BYTES:
                left_out.append(name)
                continue
            if not all(map(is_count, shape)) or math.prod(shape) * FLOAT_BYTES[kind] != end - begin:
                raise ConversionError(f"{path}: {name!r}: {end - begin} bytes for the shape {shape} of {kind}")
            if end > len(data):
                raise ConversionError(f"{path}: {name!r} lies outside the file: it is cut off")
            tensors[name] = Tensor(shape, kind, to_fp32(kind, data[begin:end]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConversionError(f"{path}: not a whole safetensors file: {error}") from error
    if end_before != len(data):
        raise ConversionError(f"{path}: describes {end_before} bytes of data, has {len(data)}: it is cut off or damaged")
    return tensors, [name for name in left_out if name.rpartition(".")[2] != COUNTER], metadata


def write_safetensors(file, tensors, metadata=None):
    header, offset = {METADATA: {"format": "pt", **(metadata or {})}}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, offset + len(tensor.data)]}
        offset += len(tensor.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in tensors.values():
        file.write(tensor.data)


# --- writing .pth ---


def pickled(tensors):
    """The pickle of an OrderedDict of tensors, as torch.save writes it."""

    def text(words):
        encoded = words.encode()
        return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded

    def numbers(values):
        return pickle.MARK + b"".join(pickle.LONG1 + b"\x08" + struct.pack("<q", value) for value in values) + pickle.TUPLE

    ordered_dict = b"ccollections\nOrderedDict\n)R"
    parts = [pickle.PROTO + b"\x02" + ordered_dict + pickle.MARK]
    for number, (name, (storage, shape, count)) in enumerate(tensors.items()):
        strides = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
        parts += [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n((", text("storage"), f"ctorch\n{storage}\n".encode(),
                  text(str(number)), text("cpu"), pickle.LONG1 + b"\x08" + struct.pack("<q", count), b"tQK\x00",
                  numbers(shape), numbers(strides), pickle.NEWFALSE, ordered_dict, b"tR"]
    return b"".join(parts) + pickle.SETITEMS + pickle.STOP


def write_pth(file, tensors):
    entries, contents = {}, []
    for name, tensor in tensors.items():
        entries[name] = ("FloatStorage", tensor.shape, tensor.count())
        contents.append(tensor.data)
        if name.rpartition(".")[2] == "running_var":
            entries[f"{name.rpartition('.')[0]}.{COUNTER}"] = ("LongStorage", (), 1)
            contents.append(bytes(8))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled(entries))
        for number, content in enumerate(contents):
            archive.writestr(f"archive/data/{number}", content)
        archive.writestr("archive/version", "3\n")


# --- the program ---


def without_wrappers(tensors):
    """The tensors without what wrappers put before all names, and that."""
    taken = ""
    while tensors:
        wrapper = next((w for w in WRAPPERS if all(name.startswith(w) for name in tensors)), None)
        if wrapper is None:
            break
        taken += wrapper
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors, taken


def convert(source, target):
    """Returns the tensors and lines that say what was changed."""
    from_safetensors, to_safetensors = (Path(path).suffix == ".safetensors" for path in (source, target))
    if not from_safetensors and not to_safetensors:
        raise ConversionError("one of the two files must end in .safetensors")
    tensors, left_out, *metadata = (read_safetensors if from_safetensors else read_pth)(source)
    tensors = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] != COUNTER}
    tensors, wrapper = without_wrappers(tensors)
    if not tensors:
        raise ConversionError(f"{source}: holds no tensors of floats, so there is nothing to convert")
    odd = next((name for name in tensors if not name or not name.isprintable() or name == METADATA), None)
    if odd is not None:
        raise ConversionError(f"{source}: {odd[:100]!r} cannot be the name of a tensor")
    notes = [f"{wrapper!r} taken off all names"] if wrapper else []
    for kind, count in collections.Counter(tensor.kind for tensor in tensors.values()).items():
        if kind != "F32":
            notes.append(f"{count} tensors of {kind} became F32, {'rounded' if kind == 'F64' else 'the same numbers'}")
    if left_out:
        notes.append(f"{len(left_out)} entries left out that are no tensors of floats, the first {left_out[0]!r}")
    with output_file(target) as path, open(path, "wb") as file:
        if to_safetensors:
            write_safetensors(file, tensors, *metadata)
        else:
            write_pth(file, tensors)
    return tensors, notes


def main():
    parser = argparse.ArgumentParser(description="Converts weights between .pth and .safetensors.")
    parser.add_argument("source", metavar="FROM")
    parser.add_argument("target", metavar="TO")
    arguments = parser.parse_args()
    try:
        tensors, notes = convert(arguments.source, arguments.target)
    except ConversionError as error:
        # Words of the file must not move a terminal's cursor.
        words = "".join(letter if letter.isprintable() else "?" for letter in str(error))
        print(f"{PROGRAM}: error: {words}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{PROGRAM}: error: cannot write {arguments.target}: {error}", file=sys.stderr)
        return 1
    for note in notes:
        print(f"{PROGRAM}: {arguments.source}: {note}")
    count = sum(tensor.count() for tensor in tensors.values())
    print(f"{PROGRAM}: {arguments.target}: {len(tensors)} tensors, {count:,} numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
