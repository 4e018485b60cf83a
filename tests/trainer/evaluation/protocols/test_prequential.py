"""P5 by the command line: killed in between, gone on with, and its report against figures computed apart."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.data.dataset import Dataset
from trainer.data.settings import DatasetSource
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.prequential import evaluate_prequential
from trainer.evaluation.report.contents import EvaluationReport, load
from trainer.evaluation.report.plots import render_plots
from trainer.evaluation.report.tables import to_markdown
from trainer.locks import writing_alone
from trainer.runs import Run
from trainer.task import main

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_dataset(tmp_path_factory.mktemp("p5-data") / "tiny", items=30, users=40)


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is only begun: its settings and its data are enough."""
    source = {"name": "dataset", "path": str(dataset.path)}
    config = tiny_config(
        dataset.path,
        data={"source": source, "split": {"min_positives": 1}},
        training={"epochs": 1, "batch_size": 64, "min_epoch_steps": 1, "refit": False},
        evaluation={"ks": [5, 10], "bootstrap_samples": 50, "prequential": {"windows": 2, "first_share": 0.6}},
    )
    begun = Run.create(tmp_path_factory.mktemp("p5") / "run", config)
    begun.record_data(dataset)
    return begun


def _learned(run: Run) -> dict[str, int]:
    return {
        f"{path.parent.parent.name}/{path.parent.name}": path.stat().st_mtime_ns
        for path in run.path.glob("prequential/*/*/learned.json")
    }


@pytest.fixture(scope="module")
def before_the_kill(run: Run) -> dict[str, int]:
    """The models of an evaluation that is killed while it trains its second one."""
    command = [sys.executable, "-m", "trainer.task", "evaluate", "--run-dir", str(run.path), "--protocol", "p5"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=os.environ)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Window 1 from "):
            break
    else:
        pytest.fail(f"it ended: {said}")
    # The next training may not have been started yet.
    while not (trained := psutil.Process(process.pid).children()):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    # It ends with its parent.
    _, alive = psutil.wait_procs(trained, timeout=60)
    assert not alive
    return _learned(run)


@pytest.fixture(scope="module")
def report(run: Run, before_the_kill: dict[str, int]) -> EvaluationReport:
    assert main(["evaluate", "--run-dir", str(run.path), "--protocol", "p5"]) == 0
    return load(run.path / "evaluation-p5-tiny.json")


def test_what_was_finished_before_the_kill_is_used_again(
    run: Run, before_the_kill: dict[str, int], report: EvaluationReport
) -> None:
    found = _learned(run)
    first, second = sorted({name.partition("/")[0] for name in found})
    assert list(before_the_kill) == [f"{first}/retrained"]
    assert set(found) == {f"{first}/retrained", f"{second}/retrained", f"{second}/updated"}
    assert found[f"{first}/retrained"] == before_the_kill[f"{first}/retrained"]
    again = evaluate_prequential(Run.open(run.path))
    assert _learned(run) == found
    assert again.metrics == report.metrics
    assert again.prequential is not None
    assert report.prequential is not None
    for model in ("updated", "retrained", "frozen"):
        assert again.prequential.processor_seconds[model] == report.prequential.processor_seconds[model]


def test_models_learn_from_what_came_before_their_window(run: Run, report: EvaluationReport) -> None:
    for path in run.path.glob("prequential/before-*/*/config.yaml"):
        config = Run.open(path.parent).config
        assert isinstance(config.data.source, DatasetSource)
        moments = Dataset.load(config.data.source.path).interactions().collect()["timestamp"]
        assert moments.max() < int(path.parent.parent.name.removeprefix("before-"))  # type: ignore[operator]
        assert config.data.split.test_fraction == 0.0


def test_figures_are_averages_over_the_windows(dataset: Dataset, report: EvaluationReport) -> None:
    models = {report.model: (report.metrics, report.slices)}
    models |= {each.model: (each.metrics, each.slices) for each in report.baselines}
    assert list(models) == ["updated", "retrained", "frozen", "popularity"]
    for metrics, slices in models.values():
        for name in ("recall@5", "ndcg@5", "recall@10", "ndcg@10"):
            windows = [window[name].value for window in slices["window"].values()]
            assert len(windows) == 2
            assert metrics[name].value == pytest.approx(np.mean(windows))
    # All have learned the same up to the first window, and popularity is counted in plain Python.
    first = next(iter(report.slices["window"]))
    assert len({tuple(models[name][1]["window"][first].items()) for name in ("updated", "retrained", "frozen")}) == 1
    expected = _popularity(dataset, windows=2, first_share=0.6, k=5)
    assert [each["recall@5"].value for each in models["popularity"][1]["window"].values()] == pytest.approx(expected)


def _popularity(dataset: Dataset, *, windows: int, first_share: float, k: int) -> list[float]:
    rows = dataset.interactions().collect().sort("timestamp").to_dicts()
    places = [round(len(rows) * (first_share + (1 - first_share) * number / windows)) for number in range(windows)]
    begins = [rows[place]["timestamp"] for place in places]
    size = places[1] - places[0]
    spans = [rows[places[0] - size]["timestamp"], *begins, rows[-1]["timestamp"] + 1]
    liked = [row for row in rows if row["value"] >= 4]
    found = []
    for start, begin, end in zip(spans, spans[1:], spans[2:], strict=False):
        counts: dict[str, int] = {}
        for row in liked:
            if start <= row["timestamp"] < begin:
                counts[row["item_id"]] = counts.get(row["item_id"], 0) + 1
        hits = []
        for row in (each for each in liked if begin <= each["timestamp"] < end):
            moment, user = row["timestamp"], row["user_id"]
            known = {each["item_id"] for each in rows if each["timestamp"] <= moment}
            known -= {each["item_id"] for each in liked if each["user_id"] == user and each["timestamp"] < moment}
            hits.append(row["item_id"] in sorted(known, key=lambda item: (-counts.get(item, 0), item))[:k])
        found.append(float(np.mean(hits)))
    return found


def test_costs_and_gains(report: EvaluationReport) -> None:
    result = report.prequential
    assert result is not None
    seconds = result.processor_seconds
    # Every training imports TensorFlow, which takes more than a second.
    assert min(*seconds["updated"], *seconds["retrained"], seconds["frozen"][0]) > 1.0
    assert seconds["updated"][0] == seconds["retrained"][0] == seconds["frozen"][0]
    assert seconds["frozen"][1] == 0.0
    assert result.ratios["retrained"]["processor_seconds"].value == pytest.approx(
        seconds["updated"][1] / seconds["retrained"][1]
    )
    for other in report.baselines:
        ratio = result.ratios[other.model]["recall@10"]
        assert ratio.value == pytest.approx(report.metrics["recall@10"].value / other.metrics["recall@10"].value)
        assert ratio.ci95 is not None
        assert ratio.ci95[0] <= ratio.value <= ratio.ci95[1]
    page = to_markdown(report)
    assert "## What learning costs" in page
    assert "## Recall@10 by window" in page
    assert f"{seconds['retrained'][1]:,.1f}" in page
    assert render_plots(report)["windows"].startswith(b"\x89PNG")


def test_a_model_that_can_not_be_trained(dataset: Dataset, tmp_path: Path) -> None:
    source = {"name": "dataset", "path": str(dataset.path)}
    config = tiny_config(
        dataset.path,
        data={"source": source, "split": {"min_positives": 16}},
        evaluation={"prequential": {"windows": 2}},
    )
    begun = Run.create(tmp_path / "run", config)
    begun.record_data(dataset)
    with pytest.raises(BabelrecError, match=r"retrained\.log ends with: error: .*data\.split\.min_positives"):
        evaluate_prequential(begun)


def test_two_evaluations_do_not_meet(run: Run) -> None:
    with writing_alone(run.path / "prequential"), pytest.raises(BabelrecError, match="written by another process"):
        evaluate_prequential(run)


def test_settings_of_a_run_that_can_not_be_changed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "--run-dir", str(run.path), "--set"]
    assert main([*arguments, "training.epochs=2"]) == 1
    assert "only `evaluation` and `update` settings can be changed" in capsys.readouterr().err
    assert main([*arguments, "evaluation.prequential.windows=1"]) == 1
    assert "evaluation.prequential.windows" in capsys.readouterr().err
