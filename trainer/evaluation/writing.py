"""Writes an evaluation report for programs (JSON), readers (Markdown) and eyes (PNG)."""

from pathlib import Path

from trainer.evaluation.plots import draw_plots
from trainer.evaluation.report import DEFAULT_STEM, EvaluationReport
from trainer.evaluation.tables import to_markdown
from trainer.files import write_text


def write(report: EvaluationReport, directory: Path, *, stem: str = DEFAULT_STEM) -> list[Path]:
    """Writes the report as JSON, Markdown and plots, each file atomically.

    The JSON comes last: whoever finds it finds the rest. Plots of an earlier report under the same stem
    that this one has no data for are removed.

    Args:
        report: what to write.
        directory: made when missing.
        stem: names the files: `evaluation.json`, `evaluation.md`, `evaluation-metrics.png`, ...

    Returns:
        The files written, JSON first.
    """
    plots = draw_plots(report, directory, stem=stem)
    markdown = directory / f"{stem}.md"
    write_text(markdown, to_markdown(report, plots=[plot.name for plot in plots]))
    document = directory / f"{stem}.json"
    write_text(document, report.to_json())
    return [document, markdown, *plots]
