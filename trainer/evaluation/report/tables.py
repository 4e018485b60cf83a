"""A report as Markdown and as a table in the terminal."""

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.metrics.registry import METRICS
from trainer.evaluation.report.contents import EvaluationReport, Metrics
from trainer.evaluation.report.head_tables import NOTES as HEAD_NOTES
from trainer.evaluation.report.head_tables import ORDER_HEADER, PROBABILITY_HEADER, order_rows, probability_rows
from trainer.evaluation.report.head_tables import Row as HeadRow
from trainer.evaluation.report.prequential_tables import PREQUENTIAL_HEADER, PREQUENTIAL_NOTE, prequential_rows

_HEADLINE = ("recall@10", "recall@20", "ndcg@10", "hr@10", "mrr@10")
_IMPRESSION_HEADLINE = ("auc", "mrr", "ndcg@5", "ndcg@10")
_LIST_METRICS = [f"{metric.name}@10" for metric in METRICS.values() if not metric.is_accuracy]
_DIMENSIONS = {
    "item_language": "item language",
    "item_temperature": "cold and warm items",
    "item_temperature_alone": "cold items ranked among cold ones, warm among warm",
    "user_activity": "training items of the user",
    "language_pair": "language of histories → candidates",
}
_COMPARISONS = {
    "same": "candidates' language, for those with a text in both (main language and {})",
    "mixed": "candidates' language, those with a text in {} replaced and the others unchanged",
}
_OTHER_LABELS = {"accuracy": "Accuracy", "auc": "AUC"}


_IMPRESSION_NOTES = {
    "AUC": "how often a clicked candidate scores higher than another one of the same impression; 0.5 is chance",
    "MRR": "mean over an impression's clicks of 1 / rank (MIND's definition)",
    "NDCG@k": "gain of the clicks among the first k, weighted towards the top, relative to the maximum",
    "difference": "the second row minus the first, paired impression by impression",
}


def metric_label(name: str) -> str:
    """Label of a metric in tables and plots: `ndcg@10` -> `NDCG@10`."""
    base, at, cutoff = name.partition("@")
    metric = METRICS.get(base)
    label = _OTHER_LABELS.get(base, base.replace("_", " ")) if metric is None else metric.label
    return label + at + cutoff


def accuracy_metrics(report: EvaluationReport) -> list[str]:
    """P1's or P3's headline metrics in the report, and its additional ones."""
    if by_impression(report):
        return [name for name in _IMPRESSION_HEADLINE if name in report.metrics]
    own = [name for name in report.metrics if name.partition("@")[0] not in METRICS]
    return [name for name in _HEADLINE if name in report.metrics] + own


def by_impression(report: EvaluationReport) -> bool:
    """Whether averages are over impressions (P3) rather than users."""
    return report.sizes is not None and report.sizes.impressions is not None


def slice_title(dimension: str) -> str:
    """Title of a dimension of slices: `item_language` -> `item language`."""
    kind, colon, other = dimension.partition(": ")
    if colon and kind in _COMPARISONS:
        return _COMPARISONS[kind].format(other)
    return _DIMENSIONS.get(dimension, dimension.replace("_", " "))


def to_markdown(report: EvaluationReport, *, plots: Sequence[str] = ()) -> str:
    """The report as a Markdown page: accuracy, advantage, lists, slices, plots.

    Args:
        report: what to show.
        plots: file names of images next to the page.
    """
    columns = accuracy_metrics(report)
    unit = "impression" if by_impression(report) else "user"
    ranked = "each impression's candidates ranked" if by_impression(report) else "ranked against the whole catalogue"
    parts = [
        f"# {escape(report.model)} on {escape(report.dataset)}",
        f"Protocol {report.protocol}, {report.split} split, {ranked} in "
        f"{report.seconds:.1f} s. {_sizes(report)}".rstrip(),
        "## Accuracy",
        f"Brackets contain 95 % bootstrap intervals over {unit}s. Rows in italics were not computed in this run.",
        markdown_table(["model", *map(metric_label, columns)], _accuracy_rows(report, columns)),
    ]
    parts += map(escape, _remarks(report))
    better = [(result.model, result.advantage) for result in report.baselines if result.advantage]
    if better:
        parts += [
            f"## {escape(report.model)} minus each baseline",
            f"Differences are paired {unit} by {unit}; an interval that excludes 0 is significant.",
            markdown_table(
                ["baseline", *map(metric_label, columns)],
                [[escape(name), *(cell(gain.get(c), sign=True) for c in columns)] for name, gain in better],
            ),
        ]
    lists = [name for name in _LIST_METRICS if name in report.metrics]
    if lists:
        rows = [[f"**{escape(report.model)}**", *(cell(report.metrics.get(c), c) for c in lists)]]
        rows += [[escape(b.model), *(cell(b.metrics.get(c), c) for c in lists)] for b in report.baselines]
        parts += ["## Content of the lists", markdown_table(["model", *map(metric_label, lists)], rows)]
    for dimension in report.slices:
        if report.slices[dimension]:
            parts += _slice_section(report, dimension, columns[0])
    if report.prequential is not None:
        rows = _text_rows(prequential_rows(report.prequential))
        parts += ["## What learning costs", PREQUENTIAL_NOTE, markdown_table(PREQUENTIAL_HEADER, rows)]
    if report.heads:
        parts += _head_sections(report)
    notes = dict.fromkeys(name.partition("@")[0] for name in [*columns, *lists])
    explained = [f"* {METRICS[base].label}@k: {METRICS[base].note}" for base in notes if base in METRICS]
    if by_impression(report):
        explained = [f"* {name}: {note}" for name, note in _IMPRESSION_NOTES.items()]
    if report.heads:
        explained += [f"* {name}: {note}" for name, note in HEAD_NOTES.items()]
    if explained:
        parts += ["## Reading the figures", "\n".join(explained)]
    if plots:
        parts += ["## Plots", "\n\n".join(f"![{plot}]({plot})" for plot in plots)]
    return "\n\n".join(parts) + "\n"


def print_table(report: EvaluationReport, console: Console | None = None) -> None:
    """Prints the model and its baselines, and the slices by item language if there are several.

    Args:
        report: what to show.
        console: output; None: standard output.
    """
    console = console or Console()
    columns = accuracy_metrics(report)
    title = f"{report.model} on {report.dataset} ({report.protocol}, {report.split})"
    console.print(_rich_table(report, columns, title))
    if report.reference:
        sources = ", ".join(dict.fromkeys(result.source for result in report.reference))
        console.print(Text(f"* reference figures, not computed here ({sources})", style="dim"))
    unit = "impressions" if by_impression(report) else "users"
    console.print(Text(f"± half the width of the 95 % bootstrap interval over {unit}", style="dim"))
    for remark in _remarks(report):
        console.print(Text(remark, style="dim"))
    for dimension in report.slices if by_impression(report) else ("item_language",):
        if len(report.slices.get(dimension, {})) > 1:
            console.print(_rich_languages(report, dimension, columns[0]))
    if report.prequential is not None:
        rows = prequential_rows(report.prequential)
        console.print(_rich_rows("Processor seconds, and the updated model over each", PREQUENTIAL_HEADER, rows))
    if report.heads:
        console.print(_rich_rows("Ranking heads on held-out events", ORDER_HEADER, order_rows(report.heads)))
        rows = probability_rows(report.heads)
        if rows:
            console.print(_rich_rows("Their probabilities", PROBABILITY_HEADER, rows))


def _remarks(report: EvaluationReport) -> list[str]:
    """What a reader must know of the figures: that users were drawn, with which error, and what is missing."""
    remarks = []
    if report.sample is not None:
        errors = ", ".join(
            f"{metric_label(name)} {report.sample.standard_error[name]:.4f}"
            for name in accuracy_metrics(report)
            if name in report.sample.standard_error
        )
        remarks.append(
            f"{report.sample.users:,} of {report.sample.of:,} users, drawn at random (evaluation.users); standard "
            f"errors: {errors}."
        )
    remarks += [f"{name} was left out: {reason}." for name, reason in report.left_out.items()]
    return remarks


def _rich_rows(title: str, header: Sequence[str], rows: Sequence[HeadRow]) -> Table:
    table, words = rich_table(title), len(rows[0][0])
    for number, name in enumerate(header):
        justify: Literal["left", "right"] = "left" if number == 0 or (number == 1 and words == 2) else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for texts, figures in rows:
        table.add_row(*map(Text, texts), *(rich_cell(figure) if figure else Text() for figure in figures))
    return table


def _head_sections(report: EvaluationReport) -> list[str]:
    parts = [
        "## Ranking heads",
        "Measured on the events of the held-out period, positive or not. `constant` predicts the share of "
        "positives for every pair; temperature (T) and bias were fitted on the validation part.",
        markdown_table(ORDER_HEADER, _text_rows(order_rows(report.heads))),
    ]
    rows = _text_rows(probability_rows(report.heads))
    return [*parts, markdown_table(PROBABILITY_HEADER, rows)] if rows else parts


def _text_rows(rows: Sequence[HeadRow]) -> list[list[str]]:
    return [[*map(escape, texts), *map(cell, figures)] for texts, figures in rows]


def _rich_table(report: EvaluationReport, columns: list[str], title: str) -> Table:
    table = rich_table(title)
    table.add_column("model", overflow="fold", min_width=12)
    for name in columns:
        table.add_column(metric_label(name), justify="right", no_wrap=True)
    rows: list[tuple[str, Metrics, str]] = [(report.model, report.metrics, "bold green")]
    rows += [(result.model, result.metrics, "") for result in report.baselines]
    rows += [(f"{result.model} *", result.metrics, "italic") for result in report.reference]
    for number, (name, metrics, style) in enumerate(rows):
        table.add_row(
            Text(name, style=style),
            *(rich_cell(metrics.get(column), style) for column in columns),
            end_section=number in (0, len(report.baselines)),
        )
    return table


def _rich_languages(report: EvaluationReport, dimension: str, column: str) -> Table:
    groups = report.slices[dimension]
    sizes = report.slice_sizes.get(dimension, {})
    table = rich_table(f"{metric_label(column)} by {slice_title(dimension)}")
    table.add_column("language")
    table.add_column("impressions" if by_impression(report) else "users", justify="right")
    table.add_column(report.model, justify="right", overflow="fold")
    for result in report.baselines:
        table.add_column(result.model, justify="right", overflow="fold")
    for name, metrics in groups.items():
        others = [result.slices.get(dimension, {}).get(name, {}) for result in report.baselines]
        size = sizes.get(name)
        table.add_row(
            Text(name),
            "" if size is None else f"{size.users if size.impressions is None else size.impressions:,}",
            rich_cell(metrics.get(column), "bold green"),
            *(rich_cell(other.get(column)) for other in others),
        )
    return table


def rich_table(title: str) -> Table:
    """An empty table for the terminal."""
    return Table(title=Text(title, style="bold"), box=SIMPLE_HEAD, title_justify="left", pad_edge=False)


def rich_cell(metric: Metric | None, style: str = "", *, sign: bool = False) -> Text:
    """A figure and half the width of its interval, for the terminal."""
    if metric is None:
        return Text("-", style="dim")
    text = Text(f"{metric.value:{'+' if sign else ''}.4f}", style=style)
    if metric.ci95 is not None:
        text.append(f"\n±{(metric.ci95[1] - metric.ci95[0]) / 2:.4f}", style="not bold dim")
    return text


def _accuracy_rows(report: EvaluationReport, columns: list[str]) -> list[list[str]]:
    rows = [[f"**{escape(report.model)}**", *(cell(report.metrics.get(c), strong=True) for c in columns)]]
    rows += [[escape(b.model), *(cell(b.metrics.get(c)) for c in columns)] for b in report.baselines]
    rows += [
        [f"*{escape(r.model)} ({escape(r.source)})*", *(cell(r.metrics.get(c)) for c in columns)]
        for r in report.reference
    ]
    return rows


def _slice_section(report: EvaluationReport, dimension: str, column: str) -> list[str]:
    sizes = report.slice_sizes.get(dimension, {})
    impressions = by_impression(report)
    counted = ["impressions", "users", "articles", "clicks"] if impressions else ["users", "items", "test items"]
    header = ["slice", *counted, f"**{escape(report.model)}**"]
    header += [escape(result.model) for result in report.baselines]
    rows = []
    for name, metrics in report.slices[dimension].items():
        size = sizes.get(name)
        counts = [""] * len(counted)
        if size is not None:
            shown = [size.impressions or 0] if impressions else []
            counts = [f"{n:,}" for n in (*shown, size.users, size.items, size.positives)]
        others = [result.slices.get(dimension, {}).get(name, {}) for result in report.baselines]
        sign = impressions and name == "difference"
        cells = [cell(each.get(column), sign=sign) for each in (metrics, *others)]
        rows.append([escape(name), *counts, *cells])
    return [f"## {metric_label(column)} by {slice_title(dimension)}", markdown_table(header, rows)]


def _sizes(report: EvaluationReport) -> str:
    if report.sizes is None:
        return ""
    sizes = report.sizes
    if sizes.impressions is not None:
        return (
            f"{sizes.impressions:,} impressions of {sizes.users:,} users, {sizes.test:,} clicks on "
            f"{sizes.items:,} articles; {sizes.training:,} impressions before them."
        )
    return (
        f"{sizes.users:,} users, {sizes.items:,} candidate items, {sizes.training:,} training and "
        f"{sizes.test:,} test interactions."
    )


def cell(metric: Metric | None, name: str = "", *, sign: bool = False, strong: bool = False) -> str:
    """A figure and its interval for Markdown, with the decimals of the metric called ``name``."""
    if metric is None:
        return ""
    metric_of = METRICS.get(name.partition("@")[0])
    places = 4 if metric_of is None else metric_of.decimals
    form = f"{'+' if sign else ''}.{places}f"
    value = f"**{metric.value:{form}}**" if strong else f"{metric.value:{form}}"
    if metric.ci95 is None:
        return value
    return f"{value} [{metric.ci95[0]:{form}}, {metric.ci95[1]:{form}}]"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left-aligned and the others right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape(text: str) -> str:
    """Escapes a name for Markdown tables."""
    plain = " ".join(text.split())
    return "".join("\\" + character if character in "\\`*_|[]<>#" else character for character in plain)
