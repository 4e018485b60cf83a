import re
from dataclasses import replace

from rich.console import Console

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.contents import EvaluationReport
from trainer.evaluation.report.tables import metric_label, print_table, to_markdown


def _tables(markdown: str) -> dict[str, list[list[str]]]:
    """Heading -> rows of the table under it."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in markdown.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            tables.setdefault(heading, []).append(cells)
    return tables


def _printed(report: EvaluationReport, width: int = 80) -> str:
    console = Console(record=True, width=width, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(report, console)
    return console.export_text()


def test_markdown_holds_the_figures(report: EvaluationReport) -> None:
    tables = _tables(to_markdown(report, plots=["a.png"]))
    accuracy = tables["Accuracy"]
    assert accuracy[0] == ["model", "Recall@10", "Recall@20", "NDCG@10", "HR@10", "MRR@10"]
    names = [row[0] for row in accuracy[2:]]
    assert names[:4] == ["**babelrec**", "popularity", "random", "mean-history"]
    assert names[4:] == [f"*{name} (implicit 0.7.3)*" for name in ("popularity", "BPR 64", "ALS 64", "EASE")]
    recall = report.metrics["recall@10"]
    assert recall.ci95 is not None
    assert accuracy[2][1] == f"**{recall.value:.4f}** [{recall.ci95[0]:.4f}, {recall.ci95[1]:.4f}]"
    assert accuracy[8][1:] == ["0.1595", "0.2164", "0.1448", "", ""]
    assert all(len(row) == 6 for row in accuracy)
    lists = tables["Content of the lists"]
    assert lists[0] == ["model", "Coverage@10", "Popularity percentile@10"]
    assert lists[2][1] == f"{report.metrics['coverage@10'].value:.4f}"
    languages = tables["Recall@10 by item language"]
    sizes = report.slice_sizes["item_language"]
    assert {row[0]: row[1] for row in languages[2:]} == {name: str(size.users) for name, size in sizes.items()}
    random = report.baselines[1].slices["item_language"][languages[2][0]]["recall@10"]
    assert languages[2][6].startswith(f"{random.value:.4f} [")
    gain = report.baselines[0].advantage["recall@10"]
    assert tables["babelrec minus each baseline"][2][1].startswith(f"{gain.value:+.4f} [")


def test_markdown_embeds_the_plots(report: EvaluationReport) -> None:
    assert "![a.png](a.png)\n\n![b.png](b.png)" in to_markdown(report, plots=["a.png", "b.png"])
    assert "Plots" not in to_markdown(report)


def test_names_cannot_break_the_page(report: EvaluationReport) -> None:
    odd = replace(report, model="a|b\n| *c* `<b>` 영화 🎬 العربية", dataset="x" * 500)
    tables = _tables(to_markdown(odd))
    assert tables["Accuracy"][2][0] == r"**a\|b \| \*c\* \`\<b\>\` 영화 🎬 العربية**"
    assert all(len(row) == 6 for row in tables["Accuracy"])


def test_a_report_with_metrics_of_another_protocol() -> None:
    report = EvaluationReport(
        dataset="mind", protocol="P4", split="test", model="muse", seconds=2.0,
        metrics={"accuracy@1": Metric(0.8, (0.7, 0.9)), "zh_en": Metric(0.9)},
    )  # fmt: skip
    tables = _tables(to_markdown(report))
    assert tables["Accuracy"] == [
        ["model", "Accuracy@1", "zh en"],
        ["---", "---:", "---:"],
        ["**muse**", "**0.8000** [0.7000, 0.9000]", "**0.9000**"],
    ]
    assert "0.8000" in _printed(report)


def test_labels() -> None:
    assert metric_label("ndcg@10") == "NDCG@10"
    assert metric_label("popularity_percentile@5") == "Popularity percentile@5"
    assert metric_label("time_to_first") == "time to first"


def test_terminal_table_fits_eighty_columns(report: EvaluationReport) -> None:
    lines = _printed(report).splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    recall = report.metrics["recall@10"]
    row = next(line for line in lines if line.strip().startswith("babelrec ") and "0." in line)
    assert row.split()[1] == f"{recall.value:.4f}"
    assert recall.ci95 is not None
    below = lines[lines.index(row) + 1]
    assert below.split()[0] == f"±{(recall.ci95[1] - recall.ci95[0]) / 2:.4f}"
    assert rows["ALS"] == ["64", "*", "0.1595", "0.2164", "0.1448", "-", "-"]
    assert {"ko", "en", "und"} <= set(rows)
    # A name is never broken in the middle.
    assert any("popularity" in line for line in lines)
    assert any("mean-history" in line for line in lines)


def test_terminal_table_takes_names_as_they_are(report: EvaluationReport) -> None:
    assert "[bold]영화[/]" in _printed(replace(report, model="[bold]영화[/]"), width=120)


def test_one_language_needs_no_table_of_languages(report: EvaluationReport) -> None:
    ko = {"item_language": {"ko": report.slices["item_language"]["ko"]}}
    assert "by item language" in _printed(report)
    assert "by item language" not in _printed(replace(report, slices=ko))
