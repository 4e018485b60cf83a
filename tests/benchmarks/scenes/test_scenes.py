"""The scenes' table: its suites, its bars, and the comparison with the best baseline."""

from pathlib import Path

import pytest

from benchmarks.quality.report import Row
from benchmarks.quality.suites.suite import OURS
from benchmarks.scenes.bars import RANKED, check, summary
from benchmarks.scenes.suites import ALONE, P1_SCENES, SMALL_MARKETS, scene_suites
from trainer.config.loading import load_config
from trainer.errors import BabelrecError


def row(data: str, protocol: str, model: str, metric: str, mean: float) -> Row:
    found = {"data": data, "protocol": protocol, "model": model, "metric": metric, "mean": mean}
    return found | {"sd": 0.0, "seeds": 3, "of": 3}


def rows(gains: dict[str, float]) -> list[Row]:
    """The best baseline has 0.2 everywhere, another one less."""
    found = []
    for data, gain in gains.items():
        for model, value in (("EASE", 0.2), ("popularity", 0.1), (OURS, 0.2 * gain)):
            found.append(row(data, "P1", model, "ndcg@10", value))
    return found


def test_every_scene_is_a_suite_with_its_own_settings() -> None:
    suites = {(suite.data, suite.protocol): suite for suite in scene_suites()}
    assert len(suites) == len(scene_suites())
    for data in RANKED:
        assert suites[data, "P1"].models[0].name == OURS
    for config, _ in P1_SCENES.values():
        load_config(Path(config))
    for market in SMALL_MARKETS:
        together, alone = suites[f"xmarket {market}", "transfer"].models
        assert (together.name, alone.name) == (OURS, ALONE)
        assert together.facts()["settings"] != alone.facts()["settings"]


@pytest.mark.parametrize(
    ("gains", "below", "ahead"),
    [
        (dict.fromkeys(RANKED, 1.05), set(), 6),
        (dict(zip(RANKED, (1.06, 1.2, 1.05, 1.3, 1.0, 1.01), strict=True)), set(), 4),
        (dict(zip(RANKED, (1.06, 1.2, 0.99, 1.3, 1.0, 1.01), strict=True)), {RANKED[2]}, 3),
    ],
)
def test_bars_compare_with_the_best_baseline(gains: dict[str, float], below: set[str], ahead: int) -> None:
    bars = check(rows(gains))
    assert {bar["name"].partition(":")[0] for bar in bars[:6] if not bar["holds"]} == below
    assert bars[6]["value"] == ahead
    assert bars[6]["holds"] == (ahead >= 4)
    table = summary(rows(gains))
    assert [line[1] for line in table.rows] == ["EASE"] * 6
    assert table.rows[0][-1] == f"{100 * (gains[RANKED[0]] - 1):+.1f} %"


def test_transfer_and_news_have_bars_of_their_own() -> None:
    found = [
        row("xmarket in", "transfer", OURS, "ndcg@10", 0.23),
        row("xmarket in", "transfer", ALONE, "ndcg@10", 0.2),
        row("xmarket jp", "transfer", OURS, "ndcg@10", 0.21),
        row("xmarket jp", "transfer", ALONE, "ndcg@10", 0.2),
        row("mind-sample", "P3", OURS, "auc zh → zh", 0.65),
        row("mind-sample", "P3", "mean-history mUSE", "auc zh → zh", 0.62),
    ]
    bars = {bar["name"].partition(":")[0]: bar for bar in check(found)[7:]}
    assert [bars[name]["holds"] for name in ("xmarket jp", "xmarket in", "mind-sample")] == [False, True, True]
    assert bars["mind-sample"]["bar"] == pytest.approx(0.64)


def test_what_is_not_measured_does_not_hold() -> None:
    assert not any(bar["holds"] for bar in check([]))
    assert summary([]).rows == []


def test_unsearched_baselines_name_the_command() -> None:
    from benchmarks.baselines import config

    file = config.load("scenes/airbnb").model_copy(update={"chosen": {}})
    with pytest.raises(BabelrecError, match="--search"):
        file.settings(config.BASELINES["item-kNN"])
