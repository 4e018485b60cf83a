import io
import itertools
import warnings
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report import plots
from trainer.evaluation.report.contents import EvaluationReport
from trainer.evaluation.report.fonts import font_families, printable
from trainer.evaluation.report.plots import render_plots


@pytest.fixture(autouse=True)
def _no_warnings() -> object:
    """A missing glyph or a layout that does not fit shows as a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _is_a_picture(png: bytes) -> bool:
    pixels = imread(io.BytesIO(png))
    return pixels.shape[0] > 300 and pixels.shape[1] > 600 and len(np.unique(pixels[..., 0])) > 20


def test_draws_four_pictures(report: EvaluationReport) -> None:
    pictures = render_plots(report)
    assert list(pictures) == ["metrics", "recall-at-k", "languages", "trade-off"]
    assert all(_is_a_picture(png) for png in pictures.values())


def test_bars_are_as_tall_as_the_figures(report: EvaluationReport) -> None:
    figure = plots._metrics(report, plots._systems(report))
    assert figure is not None
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    names = ["recall@10", "recall@20", "ndcg@10", "hr@10", "mrr@10"]
    shown = [report.metrics, *(baseline.metrics for baseline in report.baselines)]
    expected = [metrics[name].value for metrics in shown for name in names]
    # References that a baseline of this run repeats are not drawn twice.
    expected += [0.0927, 0.1297, 0.0858, 0.1595, 0.2164, 0.1448, 0.1656, 0.2197, 0.1510]
    assert [bar.get_height() for bar in bars] == pytest.approx(expected)
    # Bars are next to each other, and those of a metric around its label.
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
    for place in range(5):
        middles = [(a + b) / 2 for a, b in spans if round((a + b) / 2) == place]
        assert np.mean(middles) == pytest.approx(place)


def test_curve_passes_through_the_figures(report: EvaluationReport) -> None:
    figure = plots._recall_curve(report, plots._systems(report))
    assert figure is not None
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    drawn = np.asarray(lines["babelrec"].get_xydata())
    assert drawn == pytest.approx(np.array(list(report.curves["recall"].items())))
    assert list(report.curves["recall"]) == [1, 2, 3, 5, 7, 10, 15, 20]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "babelrec"


def test_names_in_any_script_are_drawn_without_boxes(report: EvaluationReport) -> None:
    odd = replace(report, model="영화 电影 فيلم ภาพยนตร์ 🎬 $x_1$ \n\t" + "long " * 100, dataset="데이터")
    pictures = render_plots(odd)
    assert len(pictures) == 4
    assert all(_is_a_picture(png) for png in pictures.values())


def test_only_missing_characters_are_replaced() -> None:
    assert printable("Babelrec é ü Ж λ 10\nzh-TW") == "Babelrec é ü Ж λ 10\nzh-TW"
    # No font of ours has a glyph for a private-use code point of plane 16.
    assert printable("a\U0010ff00b") == "a?b"
    assert printable("x" * 49) == "x" * 47 + "\u2026"
    assert "DejaVu Sans" in font_families()


def test_many_languages_and_few_users(report: EvaluationReport) -> None:
    metrics = {"recall@10": Metric(0.5, (0.6, 0.7))}  # the mean may lie outside
    many = {"item_language": {f"l{number:02}": metrics for number in range(30)}}
    assert _is_a_picture(render_plots(replace(report, slices=many, slice_sizes={}))["languages"])
    figure = plots._languages(replace(report, slices=many), plots._systems(replace(report, slices=many)))
    assert figure is not None
    assert len(figure.axes[0].get_xticklabels()) == 12
    assert "18 smallest" in figure.get_supxlabel()


def test_a_report_with_nothing_to_draw(report: EvaluationReport) -> None:
    empty = replace(report, metrics={}, slices={}, curves={}, baselines=(), reference=())
    assert render_plots(empty) == {}


def test_figures_without_intervals(report: EvaluationReport) -> None:
    bare = {"recall@10": Metric(0.5), "coverage@10": Metric(0.1)}
    pictures = render_plots(replace(report, metrics=bare, baselines=(), slices={}))
    assert list(pictures) == ["metrics", "recall-at-k", "trade-off"]
    assert all(_is_a_picture(png) for png in pictures.values())


def test_the_style_stays_inside(report: EvaluationReport) -> None:
    before = dict(matplotlib.rcParams)
    render_plots(report)
    assert dict(matplotlib.rcParams) == before
