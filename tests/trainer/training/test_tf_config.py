"""TF_CONFIG as platforms write it, and as people mistype it."""

import json

import pytest

from trainer.errors import BabelrecError
from trainer.training.tf_config import Place, read_place

_HOSTS = ["a:2222", "b:2222", "[2001:db8::1]:2222"]


def _config(cluster: dict[str, list[str]], kind: str, index: object, **more: object) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}, **more})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (None, Place()),
        ("", Place()),
        (" \n", Place()),
        ("{}", Place()),
        ('{"environment": "cloud", "task": {}}', Place()),
        (_config({"worker": ["a:2222"]}, "worker", 0), Place()),
        (_config({"worker": _HOSTS}, "worker", 0), Place(3, 0)),
        (_config({"worker": _HOSTS}, "worker", 2), Place(3, 2)),
        # Vertex AI and Kubeflow: the first machine has a name of its own.
        (_config({"chief": ["c:1"], "worker": _HOSTS}, "chief", 0, environment="cloud", job={"x": 1}), Place(4, 0)),
        (_config({"chief": ["c:1"], "worker": _HOSTS}, "worker", 0), Place(4, 1)),
        (_config({"chief": ["c:1"], "worker": _HOSTS, "ps": [], "evaluator": ["e:1"]}, "worker", 2), Place(4, 3)),
    ],
)
def test_a_process_finds_its_place(text: str | None, place: Place) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'cluster': {}}", "not JSON"),
        ("工人", "not JSON"),
        ("[]", "valid dictionary"),
        (json.dumps({"cluster": {"worker": _HOSTS}}), "task: Field required"),
        (_config({"worker": _HOSTS}, "worker", 3), "there is no worker 3; the cluster has 3"),
        (_config({"worker": _HOSTS}, "worker", -1), "task.index"),
        (_config({"worker": _HOSTS}, "worker", "عامل"), "task.index"),
        (_config({"worker": _HOSTS}, "ps", 0), "task.type"),
        (_config({"worker": _HOSTS}, "evaluator", 0), "task.type"),
        (_config({"worker": _HOSTS}, "chief", 0), "there is no chief 0"),
        (_config({"worker": ["a:2222", "b"]}, "worker", 0), "cluster.worker.1"),
        (_config({"worker": ["a:2222", "a:2222"]}, "worker", 0), "given twice"),
        (_config({"worker": _HOSTS, "ps": ["p:1"]}, "worker", 0), "cluster.ps: only chief and worker"),
        (_config({"chief": ["a:1", "b:1"], "worker": _HOSTS}, "worker", 0), "cluster.chief"),
    ],
)
def test_what_is_wrong_is_named_with_an_example(text: str, reason: str) -> None:
    with pytest.raises(BabelrecError) as error:
        read_place(text)
    assert reason in str(error.value)
    assert "unset it" in str(error.value)
