"""Messages with TensorFlow's packages, without them, and both in one process."""

import subprocess
import sys

import pytest

from serving import protos
from serving.proto.generate import descriptors

# Hides packages from whatever looks for them.
_HIDE = """
import importlib.abc, importlib.util, sys

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hide())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *others: None if name.partition(".")[0] in {hidden} else real(name, *others)
"""

_USE = """
from serving import protos
request = protos.predict_pb2.PredictRequest()
request.model_spec.name = "m"
request.model_spec.version.value = 7
request.inputs["x"].dtype = protos.types_pb2.DT_STRING
request.inputs["x"].string_val.append("한국".encode())
assert protos.predict_pb2.PredictRequest.FromString(request.SerializeToString()) == request
assert protos.error_codes_pb2.Code.Name(5) == "NOT_FOUND"
assert protos.get_model_status_pb2.ModelVersionStatus.State.Name(30) == "AVAILABLE"
assert protos.config_pb2.ConfigProto(intra_op_parallelism_threads=3).intra_op_parallelism_threads == 3
assert protos.prediction_log_pb2.PredictionLog().WhichOneof("log_type") is None
from serving.proto import profiler_service_pb2, session_bundle_config_pb2
session_bundle_config_pb2.SessionBundleConfig().session_config.allow_soft_placement = True
print(request.SerializeToString(deterministic=True).hex())
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_descriptors_are_those_of_the_installed_packages() -> None:
    assert protos.DESCRIPTORS.read_bytes() == descriptors(), "write them again: python -m serving.proto.generate"


@pytest.mark.parametrize(
    "hidden", [("tensorflow", "tensorflow_serving"), ("tensorflow_serving",), ("tensorflow",)], ids="+".join
)
def test_messages_need_no_package_of_tensorflow(hidden: tuple[str, ...]) -> None:
    assert run(_HIDE.replace("{hidden}", repr(hidden)) + _USE) == run(_USE)


@pytest.mark.parametrize("first", ["import tensorflow as tf", "from serving import protos"])
def test_tensorflow_may_come_before_or_after(first: str) -> None:
    last = "import tensorflow as tf\nassert tf.make_ndarray(request.inputs['x']).shape == ()"
    run("\n".join([_HIDE.replace("{hidden}", repr({"tensorflow_serving"})), first, _USE, last]))


def test_the_client_needs_no_package_of_tensorflow() -> None:
    hidden = {"tensorflow", "tensorflow_serving", "h11", "rapidjson", "polars", "pydantic"}
    program = """
from serving.client import Query, RecommenderClient
import serving.client.cli

with RecommenderClient("localhost:1", "m", timeout=0.2) as client:
    try:
        client.recommend(Query(query="x"))
    except Exception as error:
        print(type(error).__mro__)
"""
    assert "ServingError" in run(_HIDE.replace("{hidden}", repr(hidden)) + program)
