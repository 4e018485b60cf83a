"""Which outputs are computed for a request for some of them, and which signatures run before they are requested.

The model counts the runs of one of its outputs, and of a signature that has a default for its input.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf

from serving.runtime.batching import BatchingOptions
from serving.server.api.predict import run_predict
from serving.server.execution.servable import Servable
from tests.serving.models import save_session, write_warm_up
from tests.serving.server.api.test_rpc import request_of
from tests.serving.server.execution.test_servable import load

_PREDICT = "tensorflow/serving/predict"
# The limit of a version without warm-up requests, as documented in docs/serving.md.
_OWN_GRAPHS = 16
_CHEAP = [f"y{number}" for number in range(_OWN_GRAPHS + 4)]


@pytest.fixture
def version(tmp_path: Path) -> Path:
    v1 = tf.compat.v1
    path = tmp_path / "1"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        runs = v1.get_variable("runs", initializer=0.0, use_resource=True)
        tries = v1.get_variable("tries", initializer=0.0, use_resource=True)
        cheap = {alias: x + float(number) for number, alias in enumerate(_CHEAP)}
        outputs = {
            "serving_default": cheap | {"counted": x + runs.assign_add(1.0)},
            "declared": {"y": x + tries.assign_add(1.0)},
            "counts": {"runs": runs + x * 0.0, "tries": tries + x * 0.0},
        }
        session.run(v1.global_variables_initializer())
        signatures = {key: ({"x": x}, tensors, _PREDICT) for key, tensors in outputs.items()}
        return save_session(session, path, signatures, {"declared": {"x": [2.0]}})


def ask(servable: Servable, outputs: Sequence[str] = (), signature: str = "") -> dict[str, list[float]]:
    response = run_predict(servable, "m", 1, request_of({"x": tf.constant([5.0])}, signature, tuple(outputs)))
    return {alias: tf.make_ndarray(proto).tolist() for alias, proto in response.outputs.items()}


def counted(servable: Servable, alias: str = "runs") -> float:
    return ask(servable, signature="counts")[alias][0]


def warm_up(path: Path, *outputs: str) -> None:
    write_warm_up(path, [request_of({"x": tf.constant([5.0])}, output_filter=outputs)])


def test_without_warm_up_requests_the_first_sets_of_outputs_run_on_their_own(version: Path) -> None:
    servable = load(version)
    for number, alias in enumerate(_CHEAP):
        assert ask(servable, [alias]) == {alias: [5.0 + number]}
        # All outputs from here on: otherwise each requested set would add another graph, kept forever.
        assert counted(servable) == max(0, number + 1 - _OWN_GRAPHS)
    assert ask(servable, [_CHEAP[0]]) == {_CHEAP[0]: [5.0]}
    assert counted(servable) == len(_CHEAP) - _OWN_GRAPHS


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_outputs_does_not_matter(version: Path, order: int) -> None:
    warm_up(version, "y0", "y1")
    servable = load(version)
    assert ask(servable, ["y0", "y1"][::order]) == {"y0": [5.0], "y1": [6.0]}
    assert counted(servable) == 0


@pytest.mark.parametrize("batching", [None, BatchingOptions(max_batch_size=4)], ids=["alone", "batched"])
def test_with_warm_up_requests_only_their_sets_of_outputs_run_on_their_own(
    version: Path, batching: BatchingOptions | None
) -> None:
    warm_up(version, "y1")
    servable = load(version, batching=batching)
    before = counted(servable)
    assert ask(servable, ["y1"]) == {"y1": [6.0]}
    if batching is None:
        assert counted(servable) == before == 0
    assert ask(servable, ["y0"]) == {"y0": [5.0]}
    assert counted(servable) > before


@pytest.mark.parametrize("batching", [None, BatchingOptions(max_batch_size=4)], ids=["alone", "batched"])
def test_a_signature_without_a_warm_up_request_is_run_too(version: Path, batching: BatchingOptions | None) -> None:
    warm_up(version)
    servable = load(version, batching=batching)
    # Alone and through the queue.
    assert counted(servable, "tries") == (1 if batching is None else 2)
