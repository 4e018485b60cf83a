"""Writes an evaluation report as JSON, Markdown and plots (PNG)."""

from pathlib import Path

from trainer.evaluation.report.contents import DEFAULT_STEM, EvaluationReport
from trainer.evaluation.report.plots import PLOTS, render_plots
from trainer.evaluation.report.tables import to_markdown
from trainer.files import atomic_file, write_text


def write(report: EvaluationReport, directory: Path, *, stem: str = DEFAULT_STEM) -> list[Path]:
    """Writes the report as JSON, Markdown and plots, each file atomically.

    Everything is rendered before the first file is touched, and the JSON comes last: if it exists, so does
    everything else. Plots of an earlier report with the same stem that this one lacks are removed.

    Args:
        report: what to write.
        directory: created if missing.
        stem: base name of the files: `evaluation.json`, `evaluation.md`, `evaluation-metrics.png`, ..., and
            `evaluation-users.parquet` if the report has per-user metrics.

    Returns:
        The files written, JSON first.
    """
    pictures = {directory / f"{stem}-{name}.png": png for name, png in render_plots(report).items()}
    markdown = to_markdown(report, plots=[path.name for path in pictures])
    document = report.to_json()
    for path, png in pictures.items():
        with atomic_file(path) as temporary:
            temporary.write_bytes(png)
    for path in (directory / f"{stem}-{name}.png" for name in PLOTS):
        if path not in pictures:
            path.unlink(missing_ok=True)
    users = directory / f"{stem}-users.parquet"
    if report.users is None:
        users.unlink(missing_ok=True)
    else:
        with atomic_file(users) as temporary:
            report.users.write_parquet(temporary)
    page, data = directory / f"{stem}.md", directory / f"{stem}.json"
    write_text(page, markdown)
    write_text(data, document)
    return [data, page, *pictures, *([] if report.users is None else [users])]
