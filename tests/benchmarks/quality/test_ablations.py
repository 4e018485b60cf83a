"""The registry of ablations, a run of two variants, and the arithmetic of differences."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.quality.ablations import difference, load_registry, main
from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.loading import load_config
from trainer.config.settings import dump_config
from trainer.errors import BabelrecError


def test_every_variant_of_the_registry_is_a_valid_config_that_differs_from_its_baseline() -> None:
    registry = load_registry()
    configs = {variant.name: load_config(Path(variant.config), variant.set) for variant in registry.variants}
    for evaluation in registry.evaluations.values():
        if evaluation.config is not None:
            load_config(Path(evaluation.config), evaluation.set)
    for variant in registry.variants:
        if variant.against is not None:
            assert configs[variant.name] != configs[variant.against], variant.name


def test_it_starts_as_a_program() -> None:
    command = [sys.executable, "-m", "benchmarks.quality.ablations", "--list", "--only", "kmrd/plain"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("kmrd/plain: configs/kmrd.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"against": "nobody"}, "nobody"),
        ({"evaluate": ["p9"]}, "p9"),
        ({"sett": []}, "sett"),
    ],
)
def test_a_registry_with_unknown_names_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    variant = {"name": "a", "config": "configs/kmrd.yaml", "evaluate": ["p1"]} | change
    file = tmp_path / "registry.yaml"
    file.write_text(yaml.safe_dump({"evaluations": {"p1": {"protocol": "p1"}}, "variants": [variant]}))
    with pytest.raises(BabelrecError, match=message):
        load_registry(file)


def test_differences_are_of_common_seeds_and_of_the_same_users() -> None:
    one = {42: ({"m": 0.5}, {"m": np.array([0.0, 1.0, np.nan])}), 43: ({"m": 0.9}, {})}
    two = {42: ({"m": 0.25}, {"m": np.array([0.0, 0.5, np.nan])})}
    found = difference("m", one, two)
    assert found["difference"] == 0.25
    low, high = found["ci95"]
    assert (low, high) == (0.0, 0.5)
    assert difference("m", one, {}) == {"difference": None, "ci95": None}


@pytest.mark.usefixtures("cache")
def test_two_variants_are_trained_once_measured_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = tiny_dataset(tmp_path / "tiny")
    base = tmp_path / "base.yaml"
    quick: dict[str, object] = {"epochs": 1, "batch_size": 64, "learning_rate": 0.01, "refit": False}
    base.write_text(dump_config(tiny_config(tiny.path, training=quick)), encoding="utf-8")
    variants: list[dict[str, object]] = [
        # A pivot that no text is in: this variant fails, but the others are still kept.
        {"name": "broken", "config": str(base), "set": ["model.conversion.bottleneck=4", "model.conversion.pivot=xx"]},
        {"name": "t/plain", "config": str(base), "evaluate": ["p1"]},
        {"name": "t/fast", "config": str(base), "set": ["training.learning_rate=0.03"], "evaluate": ["p1"]},
    ]
    variants[0]["evaluate"] = ["p1"]
    variants[2]["against"] = "t/plain"
    registry = tmp_path / "registry.yaml"
    registry.write_text(yaml.safe_dump({"evaluations": {"p1": {"protocol": "p1"}}, "variants": variants}))
    arguments = ["--registry", str(registry), "--output", str(tmp_path / "ablations.json"), "--seeds", "3"]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "t/fast, seed 3, p1" in printed.err
    assert "broken, seed 3: model.conversion.pivot is 'xx'" in printed.err
    result = json.loads((tmp_path / "ablations.json").read_text(encoding="utf-8"))
    rows = {(row["name"], row["metric"]): row for row in result["rows"]}
    assert set(rows) == {(name, metric) for name in ("t/plain", "t/fast") for metric in ("recall@10", "ndcg@10")}
    fast, plain = rows["t/fast", "recall@10"], rows["t/plain", "recall@10"]
    assert fast["difference"] == pytest.approx(fast["mean"] - plain["mean"])
    assert fast["ci95"][0] <= fast["difference"] <= fast["ci95"][1]
    assert plain["difference"] is None
    assert f"| t/fast | recall@10 | {fast['mean']:.4f} |" in (tmp_path / "ablations.md").read_text(encoding="utf-8")
    assert main([*arguments, "--only", "t"]) == 0
    assert "seed 3, p1" not in capsys.readouterr().err, "measured again"
    assert main([*arguments, "--only", "nobody"]) == 2
