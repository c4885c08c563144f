#!/usr/bin/python3
"""Proves that check_dependencies.py bites: a clean tree passes, and every rule reports its violation alone."""

import tempfile
import unittest
from pathlib import Path

import check_dependencies

CLEAN_TREE = {
    "core/error.h": "#pragma once\n#include <string>\n",
    "core/format.h": "#pragma once\n#include <fmt/format.h>\n",
    "core/log.cpp": '#include <unistd.h>\n#include <spdlog/spdlog.h>\n#include "core/format.h"\n#include "core/version.h"\n',
    "nn/network.h": '#pragma once\n#include <sys/mman.h>\n#include <dnnl.hpp>\n#include "core/error.h"\n',
    "nn/onednn/v2/version.h": "#pragma once\n#include <dnnl.hpp>\ninline auto dims_of(const Desc& d) { return d.dims(); }\n",
    "nn/onednn/onednn.h": '#pragma once\n#include "nn/onednn/version.h"\nauto dims = shape.dims(); int* at = dims.data();\n',
    "comm/ring.h": '#pragma once\n#include "core/error.h"\n',
    "comm/mpi_transport.cpp": '#include <mpi.h>\n#include "comm/ring.h"\n',
    "data/decoder.cpp": "#include <stb/stb_image.h>\n#include <zlib.h>\n",
    "data/batch.h": '#pragma once\n#include "core/error.h"\n',
    "app/job/ranks.h": "#pragma once\n",
    "app/train/trainer.h": '#pragma once\n#include "app/job/ranks.h"\n',
    "app/programs/main.cpp": '#include <yaml-cpp/yaml.h>\n#include "app/train/trainer.h"\n#include "comm/ring.h"\n#include "data/batch.h"\n#include "nn/network.h"\n',
    "tests/app/main_test.cpp": '#include <doctest/doctest.h>\n#include <nlohmann/json.hpp>\n#include "nn/network.h"\n',
    "build/generated.h": "ignored: T" "ODO\n",
}
for folder in check_dependencies.DOCUMENTED_FOLDERS:
    CLEAN_TREE[f"{folder}/README.md"] = f"# {folder}\nSee ../core/README.md and ${{HOME}}/runs.\n"

# Name -> (files to change, the violations that must follow: path, line, part of the message)
VIOLATIONS = {
    "neighbours": ({"nn/a.cpp": '\n#include "comm/ring.h"\n'}, [("nn/a.cpp", 2, "nn must not include comm")]),
    "upwards": ({"core/a.cpp": '#include "nn/network.h"\n'}, [("core/a.cpp", 1, "core must not include nn")]),
    "up a floor": (
        {"app/job/a.cpp": '#include "app/train/trainer.h"\n'},
        [("app/job/a.cpp", 1, "app/job must not include app/train")],
    ),
    "across a floor": (
        {"app/photos/a.h": "#pragma once\n", "app/model/a.cpp": '#include "app/photos/a.h"\n'},
        [("app/model/a.cpp", 1, "app/model must not include app/photos")],
    ),
    "up to the folder's own files": (
        {"nn/plan/a.cpp": '#include "nn/network.h"\n'},
        [("nn/plan/a.cpp", 1, 'nn/plan must not include nn/: "nn/network.h"')],
    ),
    "up from a room that is one file": (
        {"data/options.h": '#pragma once\n#include "data/batch_loader.h"\n', "data/batch_loader.h": "#pragma once\n"},
        [("data/options.h", 2, "data/options must not include data/")],
    ),
    "up to the folder's own files": (
        {"data/photos/a.cpp": '#include "data/batch_loader.h"\n', "data/batch_loader.h": "#pragma once\n"},
        [("data/photos/a.cpp", 1, "data/photos must not include data/")],
    ),
    "up from a room": (
        {"comm/schedule/a.cpp": '#include "comm/ring.h"\n'},
        [("comm/schedule/a.cpp", 1, "comm/schedule must not include comm/")],
    ),
    "unknown room": (
        {"app/attic/a.cpp": '#include "app/job/ranks.h"\n'},
        [("app/attic/a.cpp", 1, 'app has no room "attic"')],
    ),
    "tests in code": (
        {"tests/support/a.h": "#pragma once\n", "app/job/a.cpp": '#include "tests/support/a.h"\n'},
        [("app/job/a.cpp", 1, "app must not include tests")],
    ),
    "relative": ({"nn/a.cpp": '#include "network.h"\n'}, [("nn/a.cpp", 1, "not a path from the top")]),
    "dnnl": ({"app/job/a.cpp": "#include <dnnl.hpp>\n"}, [("app/job/a.cpp", 1, "<dnnl.hpp> belongs in nn/")]),
    "oneDNN's descriptors": ({"nn/a.cpp": "\nint n = src.dims()[0];\n"}, [("nn/a.cpp", 2, "nn/onednn/v*/: .dims()")]),
    "oneDNN's descriptors in a test": (
        {"tests/nn/a.cpp": "auto d = src->desc().get_dims();\n"},
        [("tests/nn/a.cpp", 1, "nn/onednn/v*/: .get_dims()")],
    ),
    "oneDNN's structs": (
        {"nn/onednn/a.cpp": "desc.data.offset0;\ndnnl_blocking_desc_t b;\n"},
        [("nn/onednn/a.cpp", 1, ".data.offset0"), ("nn/onednn/a.cpp", 2, "dnnl_blocking_desc_t")],
    ),
    "oneDNN's operation descriptors": (
        {"nn/layers/a.cpp": "dnnl::memory::desc m;\ndnnl::pooling_forward::desc d;\n"},
        [("nn/layers/a.cpp", 2, "dnnl::pooling_forward::desc")],
    ),
    "oneapi": ({"core/a.cpp": "#include <oneapi/dnnl/dnnl.hpp>\n"}, [("core/a.cpp", 1, "belongs in nn/")]),
    "mpi": ({"comm/ring.cpp": "# include <mpi.h>\n"}, [("comm/ring.cpp", 1, "<mpi.h> belongs in comm/mpi_")]),
    "yaml": ({"data/a.cpp": "#include <yaml-cpp/yaml.h>\n"}, [("data/a.cpp", 1, "belongs in app/")]),
    "cli": ({"core/a.cpp": "#include <CLI/CLI.hpp>\n"}, [("core/a.cpp", 1, "belongs in app/")]),
    "json": ({"nn/a.cpp": "#include <nlohmann/json.hpp>\n"}, [("nn/a.cpp", 1, "belongs in app/")]),
    "spdlog": ({"app/job/a.cpp": "#include <spdlog/spdlog.h>\n"}, [("app/job/a.cpp", 1, "belongs in core/log")]),
    "fmt": ({"core/a.cpp": "#include <fmt/core.h>\n"}, [("core/a.cpp", 1, "belongs in core/format")]),
    "doctest": ({"core/a.cpp": "#include <doctest/doctest.h>\n"}, [("core/a.cpp", 1, "belongs in tests/")]),
    "zlib": ({"app/job/a.cpp": "#include <zlib.h>\n"}, [("app/job/a.cpp", 1, "belongs in data/")]),
    "second decoder": ({"data/z.cpp": "#include <turbojpeg.h>\n"}, [("data/z.cpp", 1, "one file: data/decoder.cpp")]),
    "homeless": ({"app/job/a.cpp": "#include <boost/asio.hpp>\n"}, [("app/job/a.cpp", 1, "has no home")]),
    "test of another folder": (
        {"tests/nn/a.cpp": "#include <nlohmann/json.hpp>\n"},
        [("tests/nn/a.cpp", 1, "belongs in app/")],
    ),
    "format in a header": ({"nn/a.h": '#pragma once\n#include "core/format.h"\n'}, [("nn/a.h", 2, "source files")]),
    "no pragma": ({"data/a.h": "int a;\n"}, [("data/a.h", 1, "no #pragma once")]),
    "no readme": ({"comm/README.md": None}, [("comm", 0, "no README.md")]),
    "machine path": ({"scripts/a.sh": "#\ncd /ho" "me/user\n"}, [("scripts/a.sh", 2, "a path of one machine")]),
    "stale path": ({"core/a.cpp": "// see nn/gone.h\n"}, [("core/a.cpp", 1, "a file that is not there: nn/gone.h")]),
    "unfinished": ({"core/a.cpp": "int a;  // T" "ODO: more\n"}, [("core/a.cpp", 1, "finish it")]),
}


def violations_of(tree):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in tree.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_text(content, encoding="utf-8")
        return check_dependencies.violations(Path(folder))


class CheckDependenciesTest(unittest.TestCase):
    def test_a_clean_tree_passes(self):
        self.assertEqual(violations_of(CLEAN_TREE), [])

    def test_every_violation_is_reported_alone(self):
        for name, (changes, expected) in VIOLATIONS.items():
            with self.subTest(name):
                found = violations_of({**CLEAN_TREE, **changes})
                self.assertEqual([(path, line) for path, line, _ in found], [(path, line) for path, line, _ in expected])
                for (_, _, message), (_, _, part) in zip(found, expected):
                    self.assertIn(part, message)


if __name__ == "__main__":
    unittest.main()
