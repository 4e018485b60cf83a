"""The front's parser, built with the address and undefined behaviour sanitizers, on damaged requests."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

_ROOT = Path(__file__).resolve().parents[3]
_SOURCES = [Path(__file__).with_name("fuzz_messages.cc"), *(_ROOT / "serving/native/src").glob("messages.cc")]
_SOURCES += [_ROOT / "serving/native/src/tensorflow.cc"]
# `make fuzz` runs more.
_RUNS = int(os.environ.get("BABELREC_FUZZ_RUNS", "300000"))

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or not Path("/usr/include/protozero").is_dir(),
    reason="needs g++ and protozero: `apt-get install g++ libprotozero-dev`",
)


def request(rows: int, *, content: bool = False, leave_out: bool = False) -> bytes:
    """A good request in one of its forms."""
    values: dict[str, Any] = {
        "number": np.arange(rows, dtype=np.float32),
        "list": np.arange(rows * 3, dtype=np.int64).reshape(rows, 3),
        "flag": np.arange(rows) % 2 == 0,
    }
    if not leave_out:
        values["text"] = np.array(["우주선 🚀", "", "เรือ" * 20] * rows)[:rows]
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = "m", "serving_default"
    made.model_spec.version.value = rows
    for name, value in values.items():
        proto = tf.make_tensor_proto(value)
        if not content and value.dtype != object and name != "text":
            field = {"number": "float_val", "list": "int64_val", "flag": "bool_val"}[name]
            proto.ClearField("tensor_content")
            getattr(proto, field).extend(value.ravel().tolist())
        made.inputs[name].CopyFrom(proto)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "fuzz"
    flags = ["-std=c++17", "-g", "-O1", "-DSTANDALONE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["g++", *flags, *map(str, _SOURCES), "-ldl", "-o", str(path)], check=True)
    return path


def test_the_parser_does_not_read_out_of_bounds(program: Path, tmp_path: Path) -> None:
    corpus = []
    for rows in (1, 2, 32, 33):
        for content in (False, True):
            for leave_out in (False, True):
                path = tmp_path / f"{rows}-{content}-{leave_out}"
                path.write_bytes(request(rows, content=content, leave_out=leave_out))
                corpus.append(str(path))
    done = subprocess.run(
        [str(program), *corpus, "-seed=1", f"-runs={_RUNS}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    assert done.stdout == f"{_RUNS} runs\n"


def test_the_sanitizers_are_active(tmp_path: Path) -> None:
    source = tmp_path / "beyond.cc"
    source.write_text("int main(int n, char**) { int* v = new int[1]; return v[n]; }")
    subprocess.run(["g++", "-fsanitize=address", str(source), "-o", str(tmp_path / "beyond")], check=True)
    done = subprocess.run([str(tmp_path / "beyond")], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
