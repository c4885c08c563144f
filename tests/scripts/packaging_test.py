#!/usr/bin/python3
"""The descriptions for package managers of other systems name this version and what the program needs.

    packaging_test.py

Their hosts (Apptainer, Spack, Kubernetes) are not here: what can be wrong without them is looked for.
"""

import ast
import pathlib
import re
import sys
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "scripts/packaging"
VERSION = re.search(r"VERSION (\d+\.\d+\.\d+) LANGUAGES", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))[1]
# What CMake looks for, by name or by header, and how Spack calls it.
SPACK_NAMES = {"dnnl.hpp": "onednn", "stb/stb_image.h": "stb", "xxhash.h": "xxhash", "MPI": "mpi", "JPEG": "libjpeg-turbo", "ZLIB": "zlib-api", "CLI11": "cli11", "yaml-cpp": "yaml-cpp",
               "nlohmann_json": "nlohmann-json", "spdlog": "spdlog", "fmt": "fmt", "doctest": "doctest"}
NO_PACKAGES = {"OpenMP", "Threads"}


class Packaging(unittest.TestCase):
    def test_spack(self):
        text = (PACKAGING / "spack/package.py").read_text(encoding="utf-8")
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        words = {name: [call.args[0].value for call in calls if getattr(call.func, "id", "") == name]
                 for name in ("version", "depends_on")}
        self.assertEqual(words["version"], [VERSION])
        needed = {re.split("[@ ]", word)[0] for word in words["depends_on"]}
        files = [ROOT / "CMakeLists.txt", *ROOT.glob("*/CMakeLists.txt"), *ROOT.glob("tests/*/CMakeLists.txt")]
        text = "".join(file.read_text(encoding="utf-8") for file in files)
        found = {*re.findall(r"find_package\((\w[\w-]*)", text), *re.findall(r"find_path\(\w+ (\S+)", text)} - NO_PACKAGES
        self.assertLessEqual(found, set(SPACK_NAMES), "a package that this test does not know")
        self.assertLessEqual({SPACK_NAMES[name] for name in found}, needed)

    def test_apptainer(self):
        text = (PACKAGING / "dcs3gd-train.def").read_text(encoding="utf-8")
        self.assertIn(f"Version {VERSION}", text)
        for script in re.findall(r"/source/(scripts/\S+\.sh)", text):
            self.assertTrue((ROOT / script).is_file(), script)
        sections = re.findall(r"^%(\w+)", text, re.MULTILINE)
        self.assertLessEqual(set(sections), {"files", "post", "environment", "runscript", "test", "labels"})
        prefix = re.search(r"--prefix (\S+)", text)[1]
        self.assertTrue(prefix.startswith("/opt/"), "a folder of the base image: files would be copied into a folder below it")
        self.assertIn(f"    {prefix} {prefix}\n", text)
        self.assertIn(f"PATH={prefix}/bin:", text)

    def test_kubernetes(self):
        job = yaml.safe_load((PACKAGING / "mpijob.yaml").read_text(encoding="utf-8"))
        self.assertEqual((job["apiVersion"], job["kind"]), ("kubeflow.org/v2beta1", "MPIJob"))
        roles = job["spec"]["mpiReplicaSpecs"]
        self.assertEqual(set(roles), {"Launcher", "Worker"})
        for role in roles.values():
            pod = role["template"]["spec"]
            claims = {volume["name"] for volume in pod["volumes"]}
            for container in pod["containers"]:
                self.assertEqual(container["image"], f"dcs3gd-train:{VERSION}")
                self.assertLessEqual({mount["name"] for mount in container["volumeMounts"]}, claims)
        arguments = roles["Launcher"]["template"]["spec"]["containers"][0]["args"]
        self.assertEqual(int(arguments[arguments.index("-n") + 1]), roles["Worker"]["replicas"] * job["spec"]["slotsPerWorker"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
