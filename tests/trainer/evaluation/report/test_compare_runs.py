"""`compare`: tables, files and paired differences of runs."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from trainer.config.loading import parse_config
from trainer.config.settings import Config, dump_config
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.compare_output import print_comparison, write_comparison
from trainer.evaluation.report.compare_runs import compare_runs
from trainer.evaluation.report.contents import EvaluationReport
from trainer.evaluation.report.validation_curves import validation_curve
from trainer.evaluation.report.writing import write
from trainer.runs import Run
from trainer.task import main


def _write_curve(logs: Path, values: dict[int, float], suffix: str = "") -> None:
    """TensorBoard events of one validation metric: step -> value."""
    writer = tf.summary.create_file_writer(str(logs), filename_suffix=suffix)
    with writer.as_default():
        for step, value in values.items():
            tf.summary.scalar("validation/recall@10", value, step=step)
    writer.close()


def _run(path: Path, recalls: list[float], curve: list[float], **settings: object) -> Path:
    """A run directory as written by `fit` and `evaluate`, with our own figures."""
    config: Config = parse_config({"name": "r", **settings}, "test")
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    (path / "history.json").write_text(json.dumps({"seconds": 12.5, "epochs": 2, "phases": {}}))
    _write_curve(path, dict(enumerate(curve)))
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(len(recalls))], "recall@10": recalls})
    mean = float(np.mean(recalls))
    report = EvaluationReport(
        dataset="tiny",
        protocol="P1",
        split="test",
        model="r",
        metrics={"recall@10": Metric(mean, (mean - 0.05, mean + 0.05)), "coverage@10": Metric(0.5)},
        seconds=3.0,
        users=users,
    )
    write(report, path)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(2)
    recalls = rng.random(60).tolist()
    better = [value + 0.1 for value in recalls]
    return [
        _run(base / "a" / "run", recalls, [0.1, 0.2]),
        _run(base / "b" / "run", better, [0.15, 0.25, 0.24], model={"dimension": 32}, seed=7),
    ]


def test_figures_settings_curves_and_paired_differences(runs: list[Path]) -> None:
    found = compare_runs(runs)
    first, second = found.runs
    assert (first.name, second.name) == ("a/run", "b/run")
    assert found.settings == {"seed": [42, 7], "model.dimension": [64, 32]}
    assert second.curve is not None
    assert second.curve.metric == "recall@10"
    assert [epoch for epoch, _ in second.curve.values] == [1, 2, 3]
    assert [value for _, value in second.curve.values] == pytest.approx([0.15, 0.25, 0.24])
    assert (first.fit_seconds, first.epochs, first.evaluate_seconds) == (12.5, 2, 3.0)
    assert first.versus_first is None
    assert second.versus_first is not None
    difference = second.versus_first.metrics["recall@10"]
    # Each user gains the same: the interval of a paired difference is a point.
    assert (difference.value, *difference.ci95) == pytest.approx((0.1, 0.1, 0.1))  # type: ignore[misc]


def test_rows_of_users_may_be_in_any_order(runs: list[Path], tmp_path: Path) -> None:
    shuffled = Path(shutil.copytree(runs[1], tmp_path / "shuffled"))
    file = shuffled / "evaluation-users.parquet"
    pl.read_parquet(file).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(file)
    paired = compare_runs([runs[0], shuffled]).runs[1].versus_first
    assert paired is not None
    assert paired.metrics["recall@10"].ci95 == pytest.approx((0.1, 0.1))
    # Other users can't be paired.
    pl.read_parquet(file).head(59).write_parquet(file)
    assert compare_runs([runs[0], shuffled]).runs[1].versus_first is None
    file.write_bytes(b"PAR1")
    with pytest.raises(BabelrecError, match="evaluate the run again"):
        compare_runs([runs[0], shuffled])
    file.unlink()
    assert compare_runs([runs[0], shuffled]).runs[1].versus_first is None


def test_files_and_terminal(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs), "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "+0.1000" in shown
    assert "model.dimension" in shown
    document = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert document["schema"] == 1
    assert document["runs"][1]["versus_first"]["users"] == 60
    page = (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert "| `model.dimension` | 64 | 32 |" in page
    assert "![compare-validation.png](compare-validation.png)" in page
    for name in ("compare-metrics.png", "compare-validation.png"):
        picture = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert (picture == np.array([0, 114, 178])).all(axis=-1).sum() > 50


def test_runs_without_a_curve_leave_no_plot_of_before(runs: list[Path], tmp_path: Path) -> None:
    found = compare_runs(runs)
    write_comparison(found, tmp_path)
    bare = replace(found, runs=[replace(run, curve=None) for run in found.runs])
    files = write_comparison(bare, tmp_path)
    assert {path.name for path in files} == {"compare.json", "compare.md", "compare-metrics.png"}
    assert not (tmp_path / "compare-validation.png").exists()
    console = Console(file=io.StringIO(), width=60)
    print_comparison(bare, console)
    assert "Settings that differ" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_cannot_be_compared_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match="two or more different"):
        compare_runs([runs[0], runs[0]])
    with pytest.raises(BabelrecError, match="not a run directory"):
        compare_runs([runs[0], tmp_path])
    with pytest.raises(BabelrecError, match="does not exist"):
        compare_runs(runs, stem="evaluation-p2-kmrd")
    other = Path(shutil.copytree(runs[1], tmp_path / "other"))
    document = json.loads((other / "evaluation.json").read_text())
    (other / "evaluation.json").write_text(json.dumps(document | {"dataset": "kmrd"}))
    with pytest.raises(BabelrecError, match="tiny by P1 on test; kmrd by P1 on test"):
        compare_runs([runs[0], other])


def test_an_epoch_logged_twice_counts_once(runs: list[Path], tmp_path: Path) -> None:
    resumed = Path(shutil.copytree(runs[0], tmp_path / "resumed"))
    _write_curve(resumed, {1: 0.3}, suffix=".later")
    curve = validation_curve(Run.open(resumed))
    assert curve is not None
    assert [value for _, value in curve.values] == pytest.approx([0.1, 0.3])
