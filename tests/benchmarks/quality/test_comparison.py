import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.runs import run_directory
from benchmarks.harness.sources import digest
from benchmarks.harness.store import Model, Store
from benchmarks.harness.table import Bar, Table, at_least
from benchmarks.quality import comparison, plots, report
from benchmarks.quality.bars import check
from benchmarks.quality.report import Row, rows_of
from benchmarks.quality.suites import all_suites
from benchmarks.quality.suites.ours import configured, ours
from benchmarks.quality.suites.suite import OURS, Suite
from tests.benchmarks.recorder import IN_CHECKOUT, Recorder
from trainer.errors import BabelrecError

PNG = b"\x89PNG\r\n"


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


def test_rows_have_mean_and_spread_of_the_measured_seeds(tmp_path: Path) -> None:
    store, model = Store(tmp_path), Recorder().model(OURS, (10, 20, 60))
    single = Recorder().model("EASE", (10,))
    suite = Suite("d", "P1", "", (model, single))
    store.measure(single, 10)
    assert {found["model"] for found in rows_of(suite, store)} == {"EASE"}
    for seed in (10, 20):
        store.measure(model, seed)
    partial = rows_of(suite, store)
    assert (partial[0]["mean"], partial[0]["seeds"], partial[0]["of"]) == (pytest.approx(0.15), 2, 3)
    _, table = report.page([suite], partial)
    assert isinstance(table, Table)
    assert table.rows[0] == [OURS, "**0.1500 ± 0.0707**", "**0.0750 ± 0.0354**", "2 of 3"]
    store.measure(model, 60)
    rows = rows_of(suite, store)
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
    assert rows_of(Suite("d", "P1", "", (model,)), Store(tmp_path)) == []


def suites_of(*models: Model) -> list[Suite]:
    return [Suite("tiny", "P1", "Tiny", models), Suite("tiny", "P2", "Again", models[:1])]


def use(monkeypatch: pytest.MonkeyPatch, suites: list[Suite], *bars: Bar) -> None:
    monkeypatch.setattr(comparison, "all_suites", lambda: suites)
    monkeypatch.setattr(comparison, "check", lambda rows: list(bars))


def test_a_killed_benchmark_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = Recorder({"a": 1}), Recorder({"b": 1}, fails_at=43)
    suites = suites_of(mine.model(OURS), other.model("ALS"))
    use(monkeypatch, suites)
    output = tmp_path / "quality.json"
    assert comparison.main(["--output", str(output)]) == 2
    assert (mine.requested, other.requested) == ([42, 43, 44], [42])
    assert not output.exists()
    other.fails_at = None
    assert comparison.main(["--output", str(output)]) == 0
    # The same settings under the second protocol are the same measurement.
    assert (mine.requested, other.requested) == ([42, 43, 44], [42, 43, 44])
    document = json.loads(output.read_text(encoding="utf-8"))
    assert bool(document["environment"]["commit"]) == IN_CHECKOUT
    keys = {"data", "protocol", "model", "metric", "mean", "sd", "seeds", "of"}
    assert all(set(found) == keys for found in document["rows"])
    found = {(entry["protocol"], entry["model"], entry["metric"]): entry for entry in document["rows"]}
    assert len(found) == 6
    assert found["P1", OURS, "recall@10"]["mean"] == pytest.approx(0.43)
    assert found["P1", OURS, "recall@10"]["sd"] == pytest.approx(0.01)
    page = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "| babelrec | **0.4300 ± 0.0100** | **0.2150 ± 0.0050** | 3 |" in page
    assert output.with_suffix(".png").read_bytes().startswith(PNG)
    assert comparison.main(["--output", str(output), "--fresh", "--models", "ALS", "--seeds", "44"]) == 0
    assert other.requested == [42, 43, 44, 44]
    # The part that was not requested stays in the table.
    assert json.loads(output.read_text(encoding="utf-8"))["rows"] == document["rows"]


def test_parts_are_chosen_and_mistakes_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = Recorder({"a": 1}), Recorder({"b": 1})
    suites = suites_of(mine.model(OURS), other.model("ALS"))
    use(monkeypatch, suites)
    output = str(tmp_path / "quality.json")
    assert comparison.main(["--output", output, "--protocol", "P2", "--seeds", "43"]) == 0
    assert (mine.requested, other.requested) == ([43], [])
    assert comparison.main(["--output", output, "--models", "SLIM"]) == 2
    assert "'SLIM'" in capsys.readouterr().err
    assert comparison.main(["--output", output, "--data", "tiny", "--seeds", "1"]) == 2
    assert "Nothing matches" in capsys.readouterr().err
    assert comparison.main(["--output", output, "--list"]) == 0
    assert "to be run" in capsys.readouterr().out
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
    found = {bar["name"]: bar for bar in check(_passing())}
    ndcg = found["movielens-100k: P1 ndcg@10, above EASE by 10%"]
    assert ndcg["bar"] == pytest.approx(0.176)
    assert ndcg["holds"]
    assert found["kmrd: P2 zero-shot recall@10"]["holds"]
    # Above every baseline: as good as one is not enough.
    assert not found["kmrd: P2 few-shot 1% recall@10, above popularity"]["holds"]
    absent = found["kmrd: P1 ndcg@10, above the best baseline by 5%"]
    assert (absent["value"], absent["bar"], absent["holds"]) == (None, None, False)
    same = found["mind-sample: P3 auc zh → en, same impressions, at most 0.02 below auc zh → zh, same impressions"]
    assert same["bar"] == pytest.approx(0.58)
    lower = [entry | {"mean": 0.1759} if entry["mean"] == 0.1761 else entry for entry in _passing()]
    assert not next(bar for bar in check(lower) if bar["name"] == ndcg["name"])["holds"]


@pytest.mark.parametrize(("value", "code"), [(0.2, 0), (0.1, 1), (None, 1)])
def test_it_fails_while_a_bar_does_not_hold(
    value: float | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    use(monkeypatch, suites_of(recorder.model(OURS, (42,))), at_least("one", value, 0.15))
    output = ["--output", str(tmp_path / "quality.json")]
    assert comparison.main([*output, "--check"]) == code
    assert recorder.requested == []
    assert comparison.main(output) == code
    assert recorder.requested == [42]


def test_pages_and_plots_show_every_model() -> None:
    rows = [
        row("kmrd", protocol, model, "recall@10", mean)
        for protocol in ("P2 zero-shot", "P2 few-shot 1%", "P2 few-shot 10%", "P2 few-shot 100%")
        for model, mean in ((OURS, 0.2), ("EASE", 0.1), ("한국어 이웃", 0.15))
    ]
    suites = [Suite("kmrd", protocol, protocol, ()) for protocol in dict.fromkeys(r["protocol"] for r in rows)]
    tables = [part for part in report.page(suites, rows) if isinstance(part, Table)]
    assert [[line[0] for line in table.rows] for table in tables] == [[OURS, "EASE", "한국어 이웃"]] * 4
    pictures = plots.plots(suites, rows)
    assert set(pictures) == {"", "-few-shot"}
    assert all(png.startswith(PNG) for png in pictures.values())
    assert plots.plots(suites, []) == {}


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
            assert len(digest(model.sources)) == 16


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
