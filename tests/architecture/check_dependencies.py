#!/usr/bin/python3
"""Checks the rules of the house that a compiler does not: which folder includes which, where third parties live, and
what no committed file holds. Prints each violation as file:line: message; exit code 1 if there is one.

    check_dependencies.py [FOLDER]    the repository by default
"""

import re
import sys
from pathlib import Path

CODE_FOLDERS = ("app", "comm", "core", "data", "nn")
DOCUMENTED_FOLDERS = CODE_FOLDERS + ("configs", "scripts", "tests")

# Folder -> the folders whose headers it may include. Tests include anything.
ALLOWED_FOLDERS = {
    "core": {"core"},
    "nn": {"nn", "core"},
    "comm": {"comm", "core"},
    "data": {"data", "core"},
    "app": {"app", "nn", "comm", "data", "core"},
    "tests": set(CODE_FOLDERS) | {"tests"},
}

# Folder -> its floors from the ground up, each a set of rooms: a room includes its own headers and those of lower floors.
# A room is a sub-folder, the files of one name in the folder itself, or "", all other files there.
FLOORS = {
    "nn": (
        {"kernels", "graph"},
        {"onednn"},
        {"plan"},
        {"layers", "convolution"},
        {""},
    ),
    "data": (
        {"options", "batch"},
        {"paths", "transform"},
        {"dataset", "read_buffers"},
        {"photos", "stored"},
        {""},
    ),
    "app": (
        {"job", "rules"},
        {"config"},
        {"record"},
        {"model", "photos"},
        {"checkpoint", "report", "bench", "predict"},
        {"train"},
        {"programs"},
    ),
    "comm": ({"schedule"}, {""}),
}

# Third-party header -> the files that may include it. The tests of a folder may use what the folder may.
THIRD_PARTY_HOMES = (
    (r"dnnl|oneapi/", r"nn/"),
    (r"mpi(-ext)?\.h$", r"comm/mpi_|tests/mpi/"),
    (r"yaml-cpp/|CLI/|nlohmann/", r"app/"),
    (r"spdlog/", r"core/log\.cpp$"),
    (r"xxhash\.h$", r"core/hash\.cpp$"),
    (r"fmt/", r"core/format\.h$"),
    (r"stb_|stb/|turbojpeg|jpeglib|spng|png\.h$|zlib\.h$", r"data/|tests/fuzz/"),
    (r"doctest/", r"tests/"),
)
IMAGE_CODEC = re.compile(r"stb_|stb/|turbojpeg|jpeglib|spng|png\.h$")
SYSTEM_HEADER = re.compile(
    r"[a-z_0-9]+$|(sys|netinet|arpa|linux)/"  # the standard library's, the kernel's
    r"|(dirent|dlfcn|elf|emmintrin|fcntl|fnmatch|glob|immintrin|link|malloc|netdb|omp|poll|pthread|pwd|sched|signal|termios|time|unistd)\.h$"
)

INCLUDE = re.compile(r'\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")')
MACHINE_PATH = re.compile(r"(?<![\w.}])/(work|home|tmp|root|Users)\b")
UNFINISHED = re.compile(r"\b(T[O]DO|FI[X]ME|X[X]X)\b")

# A source file that a comment or README names by its path from the top folder.
NAMED_SOURCE = re.compile(r"(?<![\w/.])(?:app|comm|core|data|nn)/[\w/]+\.(?:h|cpp)\b")

# What differs between oneDNN's major versions stands in nn/onednn/v<major>/ alone: how a descriptor is asked (version 2,
# version 3), the fields of its struct, and a primitive's operation descriptor. A Shape may be asked for its dims.
ONEDNN_VERSION_HOME = re.compile(r"nn/onednn/v\d+/")
ONEDNN_VERSION_NAME = re.compile(
    r"(?<!shape)\.(dims|data_type|get_dims|get_data_type|get_strides|get_format_kind|get_inner_\w+)\(\)"
    r"|\.data\.\w+|\bdnnl_(memory|blocking)_desc_t\b|\bdnnl_blocked\b|\bdnnl::(?!memory\b)\w+::desc\b"
)

GENERATED_HEADERS = {"core/version.h", "nn/onednn/version.h"}
IGNORED_FOLDERS = {".git", "__pycache__", "build", "runs"}


def files_of(root):
    """Relative path -> lines, of every text file that belongs to the project."""
    files = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if IGNORED_FOLDERS.intersection(relative.parts) or not path.is_file():
            continue
        try:
            files[relative.as_posix()] = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # images and other binary data
    return files


def check_third_party(path, header):
    if SYSTEM_HEADER.match(header):
        return None
    for pattern, home in THIRD_PARTY_HOMES:
        if re.match(pattern, header):
            if re.match(home, path) or re.match(home, path.removeprefix("tests/")):
                return None
            return f"<{header}> belongs in {home} only"
    return f"<{header}> has no home: is it needed? Then name its folder in THIRD_PARTY_HOMES"


def floor_of(folder, room):
    return next((number for number, rooms in enumerate(FLOORS[folder]) if room in rooms), None)


def room_of(folder, path):
    """`path` within the folder."""
    first, *rest = path.split("/")
    name = first if rest else Path(first).stem
    return name if rest or floor_of(folder, name) is not None else ""


def check_room(path, header):
    """Within a folder, an arrow only downward."""
    folder, target_folder = path.split("/")[0], header.split("/")[0]
    if folder != target_folder or folder not in FLOORS:
        return None
    room, target = (room_of(folder, name.removeprefix(f"{folder}/")) for name in (path, header))
    floor, target_floor = floor_of(folder, room), floor_of(folder, target)
    for name, number in ((room, floor), (target, target_floor)):
        if number is None:
            return f'{folder} has no room "{name}": name its floor in FLOORS'
    if room != target and target_floor >= floor:
        return f'{folder}/{room} must not include {folder}/{target}: "{header}"'
    return None


def check_own(path, header, files):
    folder = path.split("/")[0]
    target = header.split("/")[0]
    if header not in files and header not in GENERATED_HEADERS:
        return f'"{header}" is not a path from the top folder of the repository'
    if target not in ALLOWED_FOLDERS[folder]:
        return f"{folder} must not include {target}: \"{header}\""
    if header == "core/format.h" and not path.endswith(".cpp"):
        return "core/format.h belongs in source files, not in headers"
    return check_room(path, header)


def check_includes(files):
    decoders = {}
    for path, lines in files.items():
        if path.split("/")[0] not in ALLOWED_FOLDERS or not path.endswith((".h", ".cpp")):
            continue
        for number, line in enumerate(lines, start=1):
            if not (include := INCLUDE.match(line)):
                continue
            third_party, own = include.groups()
            problem = check_third_party(path, third_party) if third_party else check_own(path, own, files)
            if problem:
                yield path, number, problem
            if third_party and IMAGE_CODEC.match(third_party) and path.startswith("data/"):
                decoders.setdefault(path, number)
    decoders.pop("data/photos/image_encoder.cpp", None)
    for path in sorted(decoders)[1:]:
        yield path, decoders[path], f"image decoders live in one file: {min(decoders)}"


def check_onednn_versions(files):
    for path, lines in files.items():
        code = path.removeprefix("tests/")
        if not code.startswith("nn/") or not code.endswith((".h", ".cpp")) or ONEDNN_VERSION_HOME.match(code):
            continue
        for number, line in enumerate(lines, start=1):
            if found := ONEDNN_VERSION_NAME.search(line):
                yield path, number, f"differs between oneDNN's versions, belongs in nn/onednn/v*/: {found.group()}"


def check_headers(files):
    for path, lines in files.items():
        if path.endswith(".h") and "#pragma once" not in lines:
            yield path, 1, "no #pragma once"


def check_readmes(files, root):
    for folder in DOCUMENTED_FOLDERS:
        if (root / folder).is_dir() and f"{folder}/README.md" not in files:
            yield folder, 0, "the folder has no README.md"


def check_words(files):
    for path, lines in files.items():
        for number, line in enumerate(lines, start=1):
            if found := MACHINE_PATH.search(line):
                yield path, number, f"a path of one machine: {found.group()}"
            if found := UNFINISHED.search(line):
                yield path, number, f"{found.group()}: finish it or leave it out"


def check_named_files(files):
    for path, lines in files.items():
        if path.startswith("tests/architecture/") or not path.endswith((".h", ".cpp", ".md", ".txt", ".py", ".sh")):
            continue
        for number, line in enumerate(lines, start=1):
            for named in NAMED_SOURCE.findall(line):
                if named not in files and named not in GENERATED_HEADERS and not INCLUDE.match(line):
                    yield path, number, f"names a file that is not there: {named}"


def violations(root):
    """All violations under `root` as (path, line, message)."""
    files = files_of(root)
    return [
        *check_includes(files),
        *check_onednn_versions(files),
        *check_headers(files),
        *check_readmes(files, root),
        *check_words(files),
        *check_named_files(files),
    ]


def main(arguments):
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    found = violations(root)
    for path, line, message in found:
        print(f"{path}:{line}: {message}")
    print(f"check_dependencies.py: {len(found)} violations in {len(files_of(root))} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
