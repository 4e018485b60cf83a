import json
from dataclasses import replace
from pathlib import Path

from benchmarks.harness.sources import any_source
from benchmarks.harness.store import Store
from tests.benchmarks.recorder import IN_CHECKOUT, Recorder


def test_a_measurement_is_found_again_by_settings_seed_and_sources(tmp_path: Path) -> None:
    store, recorder = Store(tmp_path), Recorder({"lambda": 1, "titles": "한국어"})
    model = recorder.model("EASE (λ)")
    assert store.find(model, 42) is None
    assert store.measure(model, 42) == {"recall@10": 0.42, "ndcg@10": 0.21}
    assert store.find(model, 42) == {"recall@10": 0.42, "ndcg@10": 0.21}
    assert store.find(model, 43) is None
    assert store.find(Recorder({"lambda": 2, "titles": "한국어"}).model("EASE (λ)"), 42) is None
    assert store.find(replace(model, name="ALS"), 42) is None
    other = replace(model, sources=("benchmarks/harness/environment.py",))
    assert store.find(other, 42) is None
    with any_source():
        assert store.find(other, 42) == {"recall@10": 0.42, "ndcg@10": 0.21}
    assert store.find(other, 42) is None
    record = json.loads(next(tmp_path.glob("*.json")).read_text(encoding="utf-8"))
    assert record["facts"] == {"lambda": 1, "titles": "한국어"}
    assert bool(record["commit"]) == IN_CHECKOUT


def test_a_broken_record_is_measured_again(tmp_path: Path) -> None:
    store, model = Store(tmp_path), Recorder().model("x")
    store.measure(model, 42)
    next(tmp_path.glob("*.json")).write_text("{", encoding="utf-8")
    assert store.find(model, 42) is None
