"""The result files, the printed tables and the exit code of every benchmark."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.harness.environment import environment
from benchmarks.harness.runner import Options, Page, Result, StoringOptions, run
from benchmarks.harness.sources import any_source_accepted
from benchmarks.harness.table import Bar, Table, at_least, at_most
from tests.benchmarks.recorder import IN_CHECKOUT
from trainer.errors import BabelrecError

PNG = b"\x89PNG\r\n"


def page(result: Result) -> list[Table | str]:
    return ["[in brackets]", Table("Rates", ("what", "rate"), [["a", f"{result['rate']}"], ["b", "**9**"]])]


def measured(
    tmp_path: Path,
    measure: Callable[[StoringOptions, Console], Result | None],
    page: Callable[[Result], Page],
    *arguments: str,
    packages: Sequence[str] = (),
    plots: Callable[[Result], dict[str, bytes]] = lambda result: {},
) -> int:
    command_line = ["--output", str(tmp_path / "out/tiny.json"), *arguments]
    description = "What it measures.\n\nAnd how."
    return run("speed.tiny", description, StoringOptions, measure, page, command_line, packages=packages, plots=plots)


@pytest.mark.parametrize(
    ("bars", "code"),
    [
        ([], 0),
        ([at_least("rate", 2.0, 2.0), at_most("failures", 0, 0)], 0),
        ([at_least("rate", 1.9, 2.0), at_most("failures", 0, 0)], 1),
        ([at_most("failures", 1, 0)], 1),
        ([at_least("rate", None, 2.0)], 1),
        ([at_most("rate", 1.0, None)], 1),
    ],
)
def test_it_fails_while_a_bar_does_not_hold(bars: list[Bar], code: int, tmp_path: Path) -> None:
    assert measured(tmp_path, lambda options, console: {"rate": 1.5, "bars": bars}, page) == code
    document = json.loads((tmp_path / "out/tiny.json").read_text(encoding="utf-8"))
    assert document["bars"] == bars
    assert all(set(bar) == {"name", "value", "comparison", "bar", "holds"} for bar in document["bars"])


def test_json_page_and_terminal_have_the_same_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(options: Options, console: Console) -> Result:
        return {"rate": 1.5, "bars": [at_least("rate", 1.5, 1.0), at_most("failures", 0, 0)]}

    assert measured(tmp_path, measure, page, packages=("numpy", "none"), plots=lambda result: {"-x": PNG}) == 0
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == {"tiny.json", "tiny.md", "tiny-x.png"}
    document = json.loads((folder / "tiny.json").read_text(encoding="utf-8"))
    assert list(document) == ["schema", "benchmark", "environment", "rate", "bars"]
    assert document["benchmark"] == "tiny"
    facts = document["environment"]
    assert set(facts) == set(environment())
    assert bool(facts["commit"]) == IN_CHECKOUT
    assert facts["packages"]["none"] is None
    assert (folder / "tiny.md").read_text(encoding="utf-8").splitlines() == [
        *("# Tiny", "", "[in brackets]", ""),
        *("## Rates", "", "| what | rate |", "| --- | ---: |", "| a | 1.5 |", "| b | **9** |", ""),
        *("## Bars", "", "| figure | value |  | bar | holds |", "| --- | ---: | ---: | ---: | ---: |"),
        *("| rate | 1.5000 | >= | 1.0000 | yes |", "| failures | 0 | <= | 0 | yes |", ""),
        "![tiny-x.png](tiny-x.png)",
    ]
    printed = capsys.readouterr().err
    assert all(word in printed for word in ("[in brackets]", "Rates", "1.5", "Bars", "failures"))
    assert "**" not in printed


def test_a_mistake_is_named_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(options: Options, console: Console) -> Result:
        raise BabelrecError("There is no model.")

    assert measured(tmp_path, measure, page) == 2
    assert "There is no model." in capsys.readouterr().err
    assert measured(tmp_path, lambda options, console: None, page) == 0
    assert not list(tmp_path.iterdir())


def test_other_sources_are_accepted_only_while_it_runs(tmp_path: Path) -> None:
    accepted: list[bool] = []

    def measure(options: Options, console: Console) -> None:
        accepted.append(any_source_accepted())

    for arguments in (("--any-source",), ()):
        assert measured(tmp_path, measure, page, *arguments) == 0
    assert accepted == [True, False]
    assert not any_source_accepted()
