import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import quality, quality_plots, quality_report, sources
from benchmarks.quality_bars import verdicts
from benchmarks.quality_store import Row, Store
from benchmarks.suites import all_suites
from benchmarks.suites.ours import configured, ours, run_directory
from benchmarks.suites.suite import OURS, SEEDS, Model, Suite
from trainer.errors import BabelrecError

PNG = b"\x89PNG\r\n"

# An unpacked source distribution has no commit to report.
_IN_CHECKOUT = (Path(__file__).resolve().parents[2] / ".git").exists()


@dataclass
class Recorder:
    """A model that counts how often it was measured, and fails where requested."""

    settings: dict[str, Any] = field(default_factory=dict)
    fails_at: int | None = None
    requested: list[int] = field(default_factory=list)

    def measure(self, seed: int) -> dict[str, float]:
        if seed == self.fails_at:
            raise BabelrecError("ended in the midst")
        self.requested.append(seed)
        return {"recall@10": seed / 100, "ndcg@10": seed / 200}

    def model(self, name: str, seeds: tuple[int, ...] = SEEDS) -> Model:
        return Model(name, self.measure, lambda: self.settings, ("benchmarks/sources.py",), seeds)


def row(data: str, protocol: str, model: str, metric: str, mean: float) -> Row:
    return {
        "data": data,
        "protocol": protocol,
        "model": model,
        "metric": metric,
        "mean": mean,
        "sd": 0.01,
        "seeds": 3,
        "of": 3,
    }


def test_a_measurement_is_found_again_by_settings_seed_and_sources(tmp_path: Path) -> None:
    store, recorder = Store(tmp_path), Recorder({"lambda": 1, "titles": "한국어"})
    model = recorder.model("EASE (λ)")
    assert store.find(model, 42) is None
    assert store.measure(model, 42) == {"recall@10": 0.42, "ndcg@10": 0.21}
    assert store.find(model, 42) == {"recall@10": 0.42, "ndcg@10": 0.21}
    assert store.find(model, 43) is None
    assert store.find(Recorder({"lambda": 2, "titles": "한국어"}).model("EASE (λ)"), 42) is None
    assert store.find(replace(model, name="ALS"), 42) is None
    other = replace(model, sources=("benchmarks/environment.py",))
    assert store.find(other, 42) is None
    assert Store(tmp_path, any_source=True).find(other, 42) == {"recall@10": 0.42, "ndcg@10": 0.21}
    record = json.loads(next(tmp_path.glob("*.json")).read_text(encoding="utf-8"))
    assert record["facts"] == {"lambda": 1, "titles": "한국어"}
    assert bool(record["commit"]) == _IN_CHECKOUT


def test_a_broken_record_is_measured_again(tmp_path: Path) -> None:
    store, model = Store(tmp_path), Recorder().model("x")
    store.measure(model, 42)
    next(tmp_path.glob("*.json")).write_text("{", encoding="utf-8")
    assert store.find(model, 42) is None


def test_rows_have_mean_and_spread_of_the_measured_seeds(tmp_path: Path) -> None:
    store, model = Store(tmp_path), Recorder().model(OURS, (10, 20, 60))
    single = Recorder().model("EASE", (10,))
    suite = Suite("d", "P1", "", (model, single))
    store.measure(single, 10)
    assert {found["model"] for found in store.rows(suite, suite.models)} == {"EASE"}
    for seed in (10, 20):
        store.measure(model, seed)
    partial = store.rows(suite, suite.models)
    assert (partial[0]["mean"], partial[0]["seeds"], partial[0]["of"]) == (pytest.approx(0.15), 2, 3)
    assert "| babelrec | **0.1500 ± 0.0707** | **0.0750 ± 0.0354** | 2 of 3 |" in quality_report.markdown(
        [suite], partial, [], []
    )
    store.measure(model, 60)
    rows = store.rows(suite, suite.models)
    # 0.1, 0.2, 0.6: mean 0.3, variance (0.04 + 0.01 + 0.09) / 2.
    assert rows[0] == {
        "data": "d",
        "protocol": "P1",
        "model": OURS,
        "metric": "recall@10",
        "mean": pytest.approx(0.3),
        "sd": pytest.approx(0.07**0.5),
        "seeds": 3,
        "of": 3,
    }
    assert rows[2]["sd"] == 0.0
    assert rows[2]["seeds"] == 1


def test_models_without_data_or_settings_have_no_rows(tmp_path: Path) -> None:
    def absent() -> dict[str, Any]:
        raise BabelrecError("no data")

    model = replace(Recorder().model("x"), facts=absent)
    assert Store(tmp_path).rows(Suite("d", "P1", "", (model,)), (model,)) == []


def test_only_what_a_program_does_changes_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""Doc."""\n\ndef f(x):\n    """Doc."""\n    return x + 1  # one\n')
    before = sources.digest(["*.py"], tmp_path)
    file.write_text('"""Another."""\ndef f(x):\n    return (\n        x + 1\n    )\n')
    assert sources.digest(["*.py"], tmp_path) == before
    file.write_text("def f(x):\n    return x + 2\n")
    assert sources.digest(["*.py"], tmp_path) != before
    with pytest.raises(ValueError, match="nothing"):
        sources.digest(["nothing*"], tmp_path)


def suites_of(*models: Model) -> list[Suite]:
    return [Suite("tiny", "P1", "Tiny", models), Suite("tiny", "P2", "Again", models[:1])]


def test_a_killed_benchmark_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = Recorder({"a": 1}), Recorder({"b": 1}, fails_at=43)
    suites = suites_of(mine.model(OURS), other.model("ALS"))
    monkeypatch.setattr(quality, "all_suites", lambda: suites)
    output = tmp_path / "quality.json"
    assert quality.main(["--output", str(output)]) == 2
    assert (mine.requested, other.requested) == ([42, 43, 44], [42])
    assert not output.exists()
    other.fails_at = None
    assert quality.main(["--output", str(output)]) == 0
    # The same settings under the second protocol are the same measurement.
    assert (mine.requested, other.requested) == ([42, 43, 44], [42, 43, 44])
    document = json.loads(output.read_text(encoding="utf-8"))
    assert bool(document["environment"]["commit"]) == _IN_CHECKOUT
    keys = {"data", "protocol", "model", "metric", "mean", "sd", "seeds", "of"}
    assert all(set(found) == keys for found in document["rows"])
    found = {(entry["protocol"], entry["model"], entry["metric"]): entry for entry in document["rows"]}
    assert len(found) == 6
    assert found["P1", OURS, "recall@10"]["mean"] == pytest.approx(0.43)
    assert found["P1", OURS, "recall@10"]["sd"] == pytest.approx(0.01)
    page = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "| babelrec | **0.4300 ± 0.0100** | **0.2150 ± 0.0050** | 3 |" in page
    assert output.with_suffix(".png").read_bytes().startswith(PNG)
    assert quality.main(["--output", str(output), "--fresh", "--models", "ALS", "--seeds", "44"]) == 0
    assert other.requested == [42, 43, 44, 44]
    # The part that was not requested stays in the table.
    assert json.loads(output.read_text(encoding="utf-8"))["rows"] == document["rows"]


def test_parts_are_chosen_and_mistakes_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = Recorder({"a": 1}), Recorder({"b": 1})
    suites = suites_of(mine.model(OURS), other.model("ALS"))
    monkeypatch.setattr(quality, "all_suites", lambda: suites)
    output = str(tmp_path / "quality.json")
    assert quality.main(["--output", output, "--protocol", "P2", "--seeds", "43"]) == 0
    assert (mine.requested, other.requested) == ([43], [])
    assert quality.main(["--output", output, "--models", "SLIM"]) == 2
    assert "'SLIM'" in capsys.readouterr().err
    assert quality.main(["--output", output, "--data", "tiny", "--seeds", "1"]) == 2
    assert "Nothing matches" in capsys.readouterr().err
    assert quality.main(["--output", output, "--list"]) == 0
    assert "to be run" in capsys.readouterr().err
    assert (mine.requested, other.requested) == ([43], [])


def _passing() -> list[Row]:
    return [
        row("movielens-100k", "P1", OURS, "ndcg@10", 0.1761),
        row("movielens-100k", "P1", "EASE", "ndcg@10", 0.16),
        row("movielens-100k", "P1", "ALS", "ndcg@10", 0.15),
        row("kmrd", "P2 zero-shot", OURS, "recall@10", 0.14),
        row("kmrd", "P2 few-shot 1%", OURS, "recall@10", 0.2),
        row("kmrd", "P2 few-shot 1%", "popularity", "recall@10", 0.2),
        row("mind-sample", "P3", OURS, "auc zh → en, same impressions", 0.58),
        row("mind-sample", "P3", OURS, "auc zh → zh, same impressions", 0.60),
    ]


def test_bars() -> None:
    found = {(bar.data, bar.figure): bar for bar in verdicts(_passing())}
    ndcg = found["movielens-100k", "P1 ndcg@10"]
    assert ndcg.bar == pytest.approx(0.176)
    assert ndcg.met
    assert "EASE" in ndcg.because
    assert found["kmrd", "P2 zero-shot recall@10"].met
    # Above every baseline: as good as one is not enough.
    assert found["kmrd", "P2 few-shot 1% recall@10"].met is False
    assert found["kmrd", "P1 ndcg@10"].met is None
    assert found["mind-sample", "P3 auc zh → en, same impressions"].bar == pytest.approx(0.58)
    lower = [entry | {"mean": 0.1759} if entry["mean"] == 0.1761 else entry for entry in _passing()]
    assert not next(bar for bar in verdicts(lower) if bar.figure == "P1 ndcg@10").met


def test_check_fails_while_a_bar_is_not_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    suites = suites_of(recorder.model(OURS))
    monkeypatch.setattr(quality, "all_suites", lambda: suites)
    assert quality.main(["--output", str(tmp_path / "quality.json"), "--check"]) == 1
    assert recorder.requested == []


def test_pages_and_plots_show_every_model(tmp_path: Path) -> None:
    rows = [
        row("kmrd", protocol, model, "recall@10", mean)
        for protocol in ("P2 zero-shot", "P2 few-shot 1%", "P2 few-shot 10%", "P2 few-shot 100%")
        for model, mean in ((OURS, 0.2), ("EASE", 0.1), ("한국어 이웃", 0.15))
    ]
    suites = [Suite("kmrd", protocol, protocol, ()) for protocol in dict.fromkeys(r["protocol"] for r in rows)]
    page = quality_report.markdown(suites, rows, verdicts(rows), ["a.png"])
    assert page.count("\n| 한국어 이웃 |") == 4
    assert "![a.png](a.png)" in page
    overview, curve = quality_plots.overview(suites, rows), quality_plots.few_shot(rows)
    assert overview is not None
    assert overview.startswith(PNG)
    assert curve is not None
    assert curve.startswith(PNG)
    assert quality_plots.overview(suites, []) is None
    assert quality_plots.few_shot([]) is None
    quality_report.show(suites, rows, verdicts(rows), Console(quiet=True))


def _named(suites: Sequence[Suite]) -> list[tuple[str, str, str]]:
    return [(suite.data, suite.protocol, model.name) for suite in suites for model in suite.models]


def test_every_suite_can_be_made(data_mirror: Path) -> None:
    suites = all_suites()
    names = _named(suites)
    assert len(set(names)) == len(names)
    for suite in suites:
        assert suite.models[0].name == OURS
        json.dumps(suite.models[0].facts())
        for model in suite.models:
            assert len(sources.digest(model.sources)) == 16


def test_measurements_are_valid_in_another_folder_and_with_disabled_settings(tmp_path: Path) -> None:
    names = tmp_path / "movielens.yaml"
    names.write_bytes(Path("configs/categories/movielens.yaml").read_bytes())
    elsewhere = [f"data.category_names={names}", "model.content.enabled=false"]

    def facts(*overrides: str) -> Mapping[str, Any]:
        return ours("configs/quickstart.yaml", lambda run, seed: {}, overrides).facts()

    here = facts()
    assert facts(*elsewhere) == here
    assert facts("model.content.enabled=true") != here
    assert facts("data.source=kmrd") != here
    names.write_text("Drama: {en: [drama]}\n", encoding="utf-8")
    assert facts(*elsewhere) != here


def test_runs_are_kept_apart_by_settings_and_seed() -> None:
    one = configured("configs/few_shot.yaml", 42, ["data.split.train_users=0.1"], start="configs/zero_shot.yaml")
    assert one.seed == 42
    assert one.training.start_from == run_directory(configured("configs/zero_shot.yaml", 42))
    other = configured("configs/few_shot.yaml", 43, ["data.split.train_users=0.1"], start="configs/zero_shot.yaml")
    assert other.training.start_from != one.training.start_from
    measured_otherwise = one.model_copy(update={"evaluation": one.evaluation.model_copy(update={"ks": [5]})})
    assert run_directory(measured_otherwise) == run_directory(one) != run_directory(other)
