"""The wrong Keras is caught at import."""

import subprocess
import sys

import pytest


def _run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    import os

    kept = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kept | environment, check=False
    )


def test_importing_trainer_selects_keras_2() -> None:
    done = _run("import trainer, tensorflow as tf; print(tf.keras.Model.__module__)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf_keras")


@pytest.mark.parametrize(
    ("code", "environment"),
    [
        ("import trainer", {"TF_USE_LEGACY_KERAS": "0"}),
        ("import tensorflow as tf; tf.keras.Model; import trainer", {}),
    ],
)
def test_keras_3_is_refused_with_the_remedy(code: str, environment: dict[str, str]) -> None:
    done = _run(code, **environment)
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert "export TF_USE_LEGACY_KERAS=1" in done.stderr
