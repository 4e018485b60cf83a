"""Compiles the native front; all else about the package is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

_HERE = Path(__file__).resolve().parent

# Predict without Python (serving/native). Optional: where gRPC's C library, protozero or a compiler is missing,
# everything works without it.
_NATIVE = Extension(
    "serving.native._front",
    sources=sorted(str(path.relative_to(_HERE)) for path in _HERE.glob("serving/native/src/*.cc")),
    depends=sorted(str(path.relative_to(_HERE)) for path in _HERE.glob("serving/native/src/*.h")),
    libraries=["grpc", "gpr"],
    extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra"],
    language="c++",
    optional=True,
)

setup(ext_modules=[_NATIVE])
