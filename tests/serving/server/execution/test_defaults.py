"""Inputs with declared defaults: what requests may leave out, through every API of the server."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.native.library import why_not
from serving.server.execution.defaults import filled, is_row, rows_given
from serving.server.execution.servable import TensorSpec
from tests.serving.default_models import PREFIX, expected, export_declared
from tests.serving.live import ROOT, LiveServer
from tests.serving.models import copy_version
from tests.serving.server.api.test_rpc import failure, request_of

_DTYPES = {"query": tf.string, "prefix": tf.string, "history": tf.string, "weights": tf.float32, "k": tf.int64}
_BATCHING = """
max_batch_size { value: 16 }
batch_timeout_micros { value: 1000 }
num_batch_threads { value: 1 }
pad_variable_length_inputs: true
"""
_NATIVE = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
# Requests that leave out various inputs, some with several rows.
_REQUESTS: list[dict[str, Any]] = [
    {"query": ["tent"]},
    {"query": ["帐篷"], "prefix": ["شعار"]},
    {"query": ["텐트", "เต็นท์", ""], "k": [1, 2, 3]},
    {"query": ["a", "b"], "flag": [False, True], "history": [["x", "y"], ["", "z"]]},
    {"query": ["🏕" * 2000], "weights": [[2.0, 1.0]], "history": [["1", "2", "3"]]},
    {"query": ["q"], "prefix": ["p"], "history": [["h"]], "weights": [[1.0, 1.0]], "k": [7], "flag": [False]},
    {"query": ["c", "d"]},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("declared")
    export_declared(path / "3")
    return path


@pytest.fixture(
    scope="module",
    params=["alone", "queue", "python", pytest.param("native", marks=_NATIVE)],
)
def live(request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that runs requests alone, through TensorFlow's batch queue, in groups in Python, or in C++."""
    flags = ["--rest_api_port=-1"]
    if request.param != "alone":
        parameters = tmp_path_factory.mktemp("batching") / "batching.config"
        sizes = "allowed_batch_sizes: [4, 16]" if request.param == "queue" else ""
        parameters.write_text(_BATCHING + sizes)
        way = "on" if request.param == "native" else "off"
        flags += ["--enable_batching", f"--batching_parameters_file={parameters}", f"--native_predict={way}"]
    with LiveServer(base, *flags) as server:
        yield server


def proto_request(inputs: Mapping[str, Any], signature: str = "") -> Any:
    return request_of({alias: tf.constant(value, _DTYPES.get(alias)) for alias, value in inputs.items()}, signature)


def check(response: Any, inputs: Mapping[str, Any]) -> None:
    wanted = expected(inputs)
    texts = [text.decode() for text in tf.make_ndarray(response.outputs["text"]).tolist()]
    # In a shared run, rows are as wide as the widest: the padding has no meaning, and joins as empty words.
    assert [without_filling(text) for text in texts] == [without_filling(text) for text in wanted["text"]]
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["total"]), wanted["total"])


def without_filling(text: str) -> str:
    start, words, query = text.split("|")
    return "|".join([start, ",".join(filter(None, words.split(","))), query])


def post(server: LiveServer, body: object) -> Any:
    request = urllib.request.Request(
        f"http://localhost:{server.rest_port}/v1/models/recommender:predict", json.dumps(body).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


@pytest.mark.parametrize("inputs", _REQUESTS)
def test_grpc(live: LiveServer, inputs: dict[str, Any]) -> None:
    check(live.prediction.Predict(proto_request(inputs), timeout=60), inputs)


def test_requests_that_leave_out_different_inputs_at_once(live: LiveServer) -> None:
    live.address  # noqa: B018  (waits until it is ready)
    with ThreadPoolExecutor(len(_REQUESTS)) as pool:
        for _ in range(10):
            found = pool.map(lambda inputs: live.prediction.Predict(proto_request(inputs), timeout=60), _REQUESTS)
            for inputs, response in zip(_REQUESTS, found, strict=True):
                check(response, inputs)


def test_inputs_without_a_default_are_not_filled_in(live: LiveServer) -> None:
    code, details = failure(live.prediction.Predict, proto_request({"prefix": ["p"]}))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("Signature input alias: query(feed name: serving_default_query:0) not found in request")
    code, details = failure(live.prediction.Predict, proto_request({"query": ["a"], "unknown": ["b"]}))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("Inputs contains invalid name")


def test_a_default_that_is_not_a_row_is_fed_as_is(live: LiveServer) -> None:
    if "--enable_batching" in str(live.process.args):
        # So does TensorFlow Serving: ComputeInputSize in batching/batching_session.cc.
        code, details = failure(live.prediction.Predict, proto_request({"x": [1.0, 2.0, 3.0]}, "scaled"))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "input tensors must have at least one dimension" in details
        return
    response = live.prediction.Predict(proto_request({"x": [1.0, 2.0, 3.0]}, "scaled"), timeout=60)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [5.0, 7.0, 9.0]
    assert post(live, {"signature_name": "scaled", "inputs": {"x": [1, 2, 3]}}) == {"outputs": [5.0, 7.0, 9.0]}
    assert post(live, {"signature_name": "scaled", "instances": [{"x": 1}, {"x": 2}]}) == {"predictions": [5.0, 7.0]}


@pytest.mark.parametrize("inputs", _REQUESTS)
def test_rest_columns(live: LiveServer, inputs: dict[str, Any]) -> None:
    answer = post(live, {"inputs": inputs})["outputs"]
    assert {alias: answer[alias] for alias in ("text", "total")} == expected(inputs)


@pytest.mark.parametrize("inputs", _REQUESTS)
def test_rest_rows(live: LiveServer, inputs: dict[str, Any]) -> None:
    instances = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    answer = post(live, {"instances": instances})["predictions"]
    wanted = expected(inputs)
    assert [(row["text"], row["total"]) for row in answer] == list(zip(*wanted.values(), strict=True))


def test_rest_rows_that_leave_out_different_inputs(live: LiveServer) -> None:
    instances = [
        {"query": "텐트", "k": 3},
        {"query": "b", "prefix": "p"},
        {"query": "c", "weights": [1.0, 2.0], "flag": False},
    ]
    full = {
        "query": ["텐트", "b", "c"], "prefix": [PREFIX, "p", PREFIX], "k": [3, 20, 20],
        "weights": [[0.5, 0.25], [0.5, 0.25], [1.0, 2.0]], "flag": [True, True, False],
    }  # fmt: skip
    answer = post(live, {"instances": instances})["predictions"]
    assert [(row["text"], row["total"]) for row in answer] == list(zip(*expected(full).values(), strict=True))


def test_rest_refusals(live: LiveServer) -> None:
    assert post(live, {"inputs": {"prefix": ["p"]}})["error"] == "Missing named input: query in 'inputs' object."
    error = post(live, {"instances": [{"query": "a", "history": ["x", "y"]}, {"query": "b"}]})["error"]
    assert error == (
        "Failed to process element: 1 key: history of 'instances' list. Error: INVALID_ARGUMENT: "
        "Expecting tensor size: 2 but got: 0"
    )
    error = post(live, {"instances": [{"query": "a"}, {"prefix": "p"}]})["error"]
    assert error.startswith("Failed to process element: 1 of 'instances' list. JSON object: ")
    assert error.endswith(
        " keys must be equal to: flag,history,k,prefix,query,weights (may be left out: flag,history,k,prefix,weights)"
    )
    error = post(live, {"signature_name": "scaled", "instances": [{"x": 1}, {"x": 2, "factor": 3.0}]})["error"]
    assert error.endswith(" keys must be equal to: factor,table,x (may be left out: factor,table)")


def test_metadata_shows_them(live: LiveServer) -> None:
    url = f"http://localhost:{live.rest_port}/v1/models/recommender/metadata"
    with urllib.request.urlopen(url, timeout=30) as answer:
        signatures = json.load(answer)["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["defaults"].keys() == {"prefix", "history", "weights", "k", "flag"}
    assert signatures["serving_default"]["defaults"]["k"]["int64_val"] == ["20"]
    assert signatures["scaled"]["defaults"].keys() == {"factor", "table"}


@pytest.mark.parametrize(
    ("value", "shape", "found"),
    [
        ([7], (-1,), True), ([[7, 8]], (-1, 2), True), ([[7, 8]], (-1, -1), True),
        (np.zeros([1, 0], int), (-1, -1), True),
        ([7, 8], (-1,), False), (7, (), False), ([7], (1,), False), ([7], None, False), ([7], (-1, -1), False),
    ],
)  # fmt: skip
def test_is_row(value: object, shape: tuple[int, ...] | None, found: bool) -> None:
    proto = tf.make_tensor_proto(value, tf.int64)
    assert is_row(proto, TensorSpec("x:0", proto.dtype, shape)) is found
    assert not is_row(proto, TensorSpec("x:0", tf.float32.as_datatype_enum, shape))


@pytest.mark.parametrize("dtype", [tf.string, tf.float32, tf.bfloat16, tf.int8, tf.uint64, tf.bool, tf.complex64])
def test_a_row_is_repeated(dtype: object) -> None:
    values = [["ä", ""]] if dtype == tf.string else tf.cast([[1, 0]], dtype)
    proto = tf.make_tensor_proto(values, dtype)
    spec = TensorSpec("x:0", proto.dtype, (-1, 2))
    row = tf.make_ndarray(proto)
    for count in (0, 1, 5):
        found = tf.make_ndarray(filled(proto, spec, count))
        assert found.shape == (count, 2)
        assert found.tolist() == np.repeat(row, count, axis=0).tolist()


def test_rows_are_those_common_to_all_inputs() -> None:
    def proto(*shape: int) -> Any:
        made = tf.make_tensor_proto(0.0)
        for size in shape:
            made.tensor_shape.dim.add(size=size)
        return made

    assert rows_given({"a": proto(3), "b": proto(3, 2)}, 100) == 3
    assert rows_given({"a": proto(0)}, 100) == 0
    assert (
        rows_given({}, 100) == rows_given({"a": proto()}, 100) == rows_given({"a": proto(2), "b": proto(3)}, 100) == 1
    )
    # A shape of a few bytes that asks for terabytes.
    assert rows_given({"a": proto(1 << 40)}, 100) == rows_given({"a": proto(-1)}, 100) == 1


@pytest.fixture(scope="module")
def recommender(exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A model that follows the exporter's contract, with defaults written into its signature afterwards."""
    base = tmp_path_factory.mktemp("recommender")
    copy_version(exports[1], base / "1")
    path = base / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    neutral: dict[int, Any] = {tf.string.as_datatype_enum: "", tf.bool.as_datatype_enum: False}
    for alias, info in signature.inputs.items():
        value = np.full([1] * len(info.tensor_shape.dim), neutral.get(info.dtype, 3 if alias == "k" else 0))
        signature.defaults[alias].CopyFrom(tf.make_tensor_proto(value, info.dtype))
    path.write_bytes(saved.SerializeToString())
    with LiveServer(base, "--rest_api_port=-1") as server:
        yield server


def test_the_examples_at_the_start_of_the_docs(recommender: LiveServer) -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    title, command = text.splitlines()[0], text.splitlines()[2].strip()
    assert title == "# Serving"
    first = re.fullmatch(r"curl -d '(.*)' http://localhost:8501/v1/models/recommender:predict", command)
    assert first is not None
    answer = post(recommender, json.loads(first[1]))["outputs"]
    # The three most popular ones (models.ITEMS): no title is "tent".
    assert answer["item_ids"] == [["1", "2", "3"]]
    assert len(answer["scores"][0]) == 3
    beginning = text.partition("\n## ")[0]
    (columns,) = re.findall(r'`({"inputs": {"user_id".*?})`', beginning)
    assert post(recommender, json.loads(columns))["outputs"]["item_ids"] == [["1", "2", "3"]] * 2
    (rows,) = re.findall(r'^ {4}({"instances": .*})$', beginning, re.MULTILINE)
    found = [row["item_ids"] for row in post(recommender, json.loads(rows))["predictions"]]
    # The first asks for five and speaks Chinese, which lifts the item in that language by 0.25; rows are as wide as
    # the widest.
    assert found == [["2", "1", "3", "4", "5"], ["1", "2", "3", "", ""]]


def test_a_request_that_leaves_out_everything(recommender: LiveServer) -> None:
    best = [b"1", b"2", b"3"]
    response = recommender.prediction.Predict(request_of({}), timeout=60)
    assert tf.make_ndarray(response.outputs["item_ids"]).tolist() == [best]
    texts = [text.decode() for text in best]
    assert post(recommender, {"inputs": {}})["outputs"]["item_ids"] == [texts]
    found = post(recommender, {"instances": [{}, {}]})["predictions"]
    assert [row["item_ids"] for row in found] == [texts, texts]
