import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import BabelrecError
from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.metrics.slices import SliceSize
from trainer.evaluation.report import writing
from trainer.evaluation.report.contents import BaselineResult, EvaluationReport, ReferenceResult, Sizes, load
from trainer.evaluation.report.writing import write

_finite = st.floats(allow_nan=False, allow_infinity=False)
_metric = st.builds(
    lambda value, ends: Metric(value, ends and (min(ends), max(ends))),
    _finite,
    st.none() | st.tuples(_finite, _finite),
)
_metrics = st.dictionaries(st.text(max_size=8), _metric, max_size=3)
_slices = st.dictionaries(st.text(max_size=5), st.dictionaries(st.text(max_size=5), _metrics, max_size=2), max_size=2)
_curves = st.dictionaries(st.just("recall"), st.dictionaries(st.integers(1, 1000), _finite, max_size=3), max_size=1)
_count = st.integers(0, 10**12)
_reports = st.builds(
    EvaluationReport,
    dataset=st.text(),
    protocol=st.text(),
    split=st.text(),
    model=st.text(),
    metrics=_metrics,
    seconds=st.floats(0, 1e9),
    slices=_slices,
    sizes=st.none() | st.builds(Sizes, _count, _count, _count, _count),
    slice_sizes=st.dictionaries(
        st.text(max_size=5),
        st.dictionaries(st.text(max_size=5), st.builds(SliceSize, _count, _count, _count), max_size=2),
        max_size=2,
    ),
    curves=_curves,
    baselines=st.lists(st.builds(BaselineResult, st.text(), _metrics, _slices, _curves, _metrics), max_size=2).map(
        tuple
    ),
    reference=st.lists(st.builds(ReferenceResult, st.text(), st.text(), _metrics), max_size=2).map(tuple),
)


@settings(deadline=None)
@given(report=_reports)
def test_json_round_trip(report: EvaluationReport) -> None:
    assert EvaluationReport.from_json(report.to_json()) == report


def test_json_has_the_contract_s_form() -> None:
    report = EvaluationReport(
        dataset="영화",
        protocol="P1",
        split="test",
        model="babelrec",
        metrics={"recall@10": Metric(0.25, (0.2, 0.3)), "coverage@10": Metric(0.5)},
        slices={"item_language": {"ko": {"recall@10": Metric(0.125, (0.0, 0.25))}}},
        seconds=1.5,
        baselines=(BaselineResult("popularity", {"recall@10": Metric(0.1, (0.0, 0.2))}),),
    )
    text = report.to_json()
    assert "영화" in text
    found = json.loads(text)
    leading = ["schema", "dataset", "protocol", "split", "model", "metrics", "slices", "seconds"]
    assert list(found)[:8] == leading
    assert {name: found[name] for name in leading} == {
        "schema": 1,
        "dataset": "영화",
        "protocol": "P1",
        "split": "test",
        "model": "babelrec",
        "metrics": {
            "recall@10": {"value": 0.25, "ci95": [0.2, 0.3]},
            "coverage@10": {"value": 0.5, "ci95": None},
        },
        "slices": {"item_language": {"ko": {"recall@10": {"value": 0.125, "ci95": [0.0, 0.25]}}}},
        "seconds": 1.5,
    }
    assert found["baselines"][0]["model"] == "popularity"
    assert found["baselines"][0]["metrics"] == {"recall@10": {"value": 0.1, "ci95": [0.0, 0.2]}}
    assert "seconds" not in found["baselines"][0]


def test_files_are_written_and_read(report: EvaluationReport, tmp_path: Path) -> None:
    directory = tmp_path / "a" / "run"
    files = write(report, directory)
    assert sorted(path.name for path in directory.iterdir()) == sorted(path.name for path in files)
    assert [path.name for path in files] == [
        "evaluation.json",
        "evaluation.md",
        "evaluation-metrics.png",
        "evaluation-recall-at-k.png",
        "evaluation-languages.png",
        "evaluation-trade-off.png",
    ]
    assert load(directory) == load(directory / "evaluation.json") == report


@pytest.fixture
def _quick_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second; here only the set of plots matters."""

    def render(report: EvaluationReport) -> dict[str, bytes]:
        names = ["metrics", *(["languages"] if report.slices else [])]
        return {name: report.model.encode() for name in names}

    monkeypatch.setattr(writing, "render_plots", render)


@pytest.mark.usefixtures("_quick_plots")
def test_two_reports_in_one_directory(report: EvaluationReport, tmp_path: Path) -> None:
    zero_shot = replace(report, protocol="P2")
    write(report, tmp_path)
    files = write(zero_shot, tmp_path, stem="zero-shot")
    assert {path.name.partition(".")[0].partition("-metrics")[0] for path in files[:3]} == {"zero-shot"}
    assert load(tmp_path) == report
    assert load(tmp_path / "zero-shot.json") == zero_shot


@pytest.mark.usefixtures("_quick_plots")
def test_plots_without_data_do_not_outlive_their_report(report: EvaluationReport, tmp_path: Path) -> None:
    write(report, tmp_path)
    assert (tmp_path / "evaluation-languages.png").exists()
    names = {path.name for path in write(replace(report, slices={}), tmp_path)}
    assert names == {"evaluation.json", "evaluation.md", "evaluation-metrics.png"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.usefixtures("_quick_plots")
def test_a_failed_write_leaves_the_old_report(
    report: EvaluationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(report, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object, **__: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(writing, "to_markdown", fail)
    with pytest.raises(OSError, match="disk full"):
        write(replace(report, model="next"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def _edited(report: EvaluationReport, **changes: object) -> str:
    document = json.loads(report.to_json())
    document.update(changes)
    return json.dumps({key: value for key, value in document.items() if value != "absent"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema: Input should be 1, received 2"),
        ({"metrics": "absent"}, "metrics: "),
        ({"metircs": {}}, "metircs: Unexpected"),
        ({"seconds": "3"}, "seconds: Input should be a valid number, received '3'"),
        ({"seconds": -1.0}, "not negative"),
        ({"metrics": {"recall@10": 0.5}}, "metrics.recall@10: "),
        ({"metrics": {"recall@10": {"value": None}}}, "metrics.recall@10.value: "),
        ({"metrics": {"recall@10": {"value": 0.5, "ci95": [0.1]}}}, "metrics.recall@10.ci95"),
        ({"metrics": {"recall@10": {"value": math.nan}}}, "metrics.recall@10: .*finite"),
        ({"metrics": {"recall@10": {"value": 0.5, "ci95": [0.6, 0.4]}}}, "low <= high"),
        ({"metrics": {"recall@10": {"value": 0.5, "ci59": None}}}, "metrics.recall@10.ci59: Unexpected"),
        ({"curves": {"recall": {"ten": 0.5}}}, r"curves.recall.ten"),
        ({"baselines": [{"model": "x"}]}, r"baselines.0.metrics: "),
        (
            {"slices": {"item_language": {"ko": {"recall@10": {"value": "much"}}}}},
            "item_language.ko.recall@10",
        ),
    ],
)
def test_a_broken_file_is_explained(
    report: EvaluationReport, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(_edited(report, **changes), encoding="utf-8")
    with pytest.raises(BabelrecError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "Remedy: " in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
def test_no_json_object_is_explained(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(BabelrecError, match=r"evaluation\.json.*Remedy"):
        load(tmp_path)


def test_a_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"does not exist.*trainer.task evaluate --run-dir"):
        load(tmp_path)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_seconds_are_a_time(report: EvaluationReport, seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        replace(report, seconds=seconds)
