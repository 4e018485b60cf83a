"""Kinds of models: TensorFlow 1 and 2, tables, loops, Keras, TensorFlow Lite, several meta graphs."""

from pathlib import Path

import numpy as np
import pytest

from tests.conformance.models import WORDS
from tests.conformance.server import Server, Target, config_list, model_config, run_to_end


def test_table_filled_from_an_asset(server: Target) -> None:
    words = [word.encode() for word in (*WORDS, "vier")]
    assert server.predict("table", {"word": words})["number"].tolist() == [0, 1, 2, 3, -1]


def test_while_loop_of_tensorflow_1(server: Target) -> None:
    for n, expected in ((0, 1), (5, 120), (20, 2432902008176640000)):
        assert server.predict("loop", {"n": np.int64(n)})["factorial"].item() == expected


def test_keras_export(server: Target) -> None:
    for signature in ("serving_default", "serve"):
        (y,) = server.predict(
            "keras_export", _only_input(server, "keras_export", signature), signature=signature
        ).values()
        assert y.tolist() == [[3.0], [7.0]]


def test_keras_save(server: Target) -> None:
    (y,) = server.predict("keras_save", {"x": [[1.0], [3.0]]}).values()
    assert y.tolist() == [[3.0], [7.0]]


def test_saved_model_next_to_tflite(server: Target) -> None:
    assert server.predict("tflite", {"x": [2.0]})["y"].tolist() == [4.0]


@pytest.mark.own_server
def test_prefer_tflite_model(models: Path) -> None:
    config = config_list(model_config("tflite", models / "tflite"), model_config("gate", models / "gate"))
    with Server("--prefer_tflite_model=true", config=config) as server:
        server.wait_until_ready()
        assert server.predict("tflite", {"x": [2.0, 5.0]})["y"].tolist() == [6.0, 15.0]
        assert server.predict("tflite", {"x": [2.0] * 7})["y"].tolist() == [6.0] * 7
        # Without a model.tflite the SavedModel is used.
        assert server.predict("gate", {"x": [2.0]})["y"].tolist() == [2.0]
        assert server.post("/v1/models/tflite:predict", {"instances": [1.0]}) == {"predictions": [3.0]}


@pytest.mark.own_server
def test_saved_model_tags(models: Path) -> None:
    base = f"--model_base_path={models / 'tags'}"
    with Server(base, "--model_name=tags", "--saved_model_tags=plus_three,serve") as server:
        server.wait_until_ready()
        assert server.predict("tags", {"x": [2.0]})["y"].tolist() == [4.0]
    with Server(base, "--model_name=tags") as server:
        server.wait_until_ready()
        assert server.predict("tags", {"x": [2.0]})["y"].tolist() == [3.0]


@pytest.mark.own_server
def test_tags_without_a_meta_graph(models: Path) -> None:
    flags = "--saved_model_tags=train", "--max_num_load_retries=0"
    status, log = run_to_end(f"--model_base_path={models / 'tags'}", *flags)
    assert status != 0
    assert "Could not find meta graph def matching supplied tags" in log


def _only_input(server: Target, model: str, signature: str) -> dict[str, object]:
    metadata = server.rest("GET", f"/v1/models/{model}/metadata").json
    (alias,) = metadata["metadata"]["signature_def"]["signature_def"][signature]["inputs"]
    return {alias: [[1.0], [3.0]]}
