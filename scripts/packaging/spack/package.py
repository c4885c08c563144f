# For Spack 0.23 (later ones lay out repositories otherwise), from a checkout:
#   spack repo create dcs3gd && mkdir -p dcs3gd/packages/dcs3gd-train
#   cp scripts/packaging/spack/package.py dcs3gd/packages/dcs3gd-train/ && spack repo add dcs3gd
#   spack dev-build dcs3gd-train@0.5.0
from spack.package import *


class Dcs3gdTrain(CMakePackage):
    """Trainer for convolutional networks on CPU clusters: stale-synchronous SGD with delay compensation."""

    has_code = True

    version("0.5.0")

    depends_on("cxx", type="build")
    depends_on("cmake@3.22:", type="build")
    depends_on("ninja", type="build")

    depends_on("onednn@2.6:3 cpu_runtime=omp")
    depends_on("mpi@3:")
    depends_on("libjpeg-turbo")
    depends_on("zlib-api")
    depends_on("stb")
    depends_on("cli11")
    depends_on("yaml-cpp")
    depends_on("nlohmann-json")
    depends_on("spdlog +shared")
    depends_on("fmt")
    depends_on("xxhash")
    depends_on("doctest")

    generator("ninja")
