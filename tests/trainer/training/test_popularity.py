"""The factor of popularity: the best on validation, once a run, kept for the phase that has none."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer.config import parse_config
from trainer.runs import Run
from trainer.towers.popularity import PopularityWeight
from trainer.training.popularity import settle_popularity


def _model() -> SimpleNamespace:
    return SimpleNamespace(query_tower=SimpleNamespace(popularity=PopularityWeight(name="popularity")))


def test_the_best_factor_is_kept_for_later_phases(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", parse_config({}, "test"))
    model = _model()
    factor = model.query_tower.popularity.factor
    known = {0.5: 0.1, 1.0: 0.2, 4.0: 0.3, 8.0: 0.3}
    settle_popularity(run, model, [8.0, 0.5, 4.0], lambda: {"recall@10": known[float(factor)]})  # type: ignore[arg-type]
    assert float(factor) == 4.0
    record = run.read("popularity.json")
    assert {point["factor"]: point["recall@10"] for point in record["curve"]} == known
    later = _model()
    settle_popularity(run, later, [8.0, 0.5, 4.0], None)  # type: ignore[arg-type]
    assert float(later.query_tower.popularity.factor) == 4.0


@pytest.mark.parametrize("factors", [[], [3.0]])
def test_without_factors_or_validation_it_stays_one(tmp_path: Path, factors: list[float]) -> None:
    run = Run.create(tmp_path / "run", parse_config({}, "test"))
    model = _model()
    settle_popularity(run, model, factors, None)  # type: ignore[arg-type]
    assert float(model.query_tower.popularity.factor) == 1.0
    assert not (run.path / "popularity.json").exists()
