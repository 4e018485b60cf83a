"""The report of `trainer.task data`: a self-contained page, and the terminal."""

import base64
import dataclasses
import html.parser
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from tests.trainer.data import builders
from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.data.description import Description, describe
from trainer.evaluation.data_report import print_description, write_page
from trainer.evaluation.data_report.plots import render
from trainer.task import main

_HOSTILE = '<script>alert("x")</script><img src="http://example.com/a.png">'


def _config(**sections: object) -> Config:
    return parse_config(
        {"name": "my-shop", "data": {"positives": {"click": None}, "split": {"min_positives": 1}}}, "here"
    )


@pytest.fixture
def facts(tmp_path: Path) -> Description:
    items = builders.items(title=[_HOSTILE, _HOSTILE, "مرحبا بالعالم"])
    return describe(builders.write(tmp_path / "d", items=items, users=builders.users()), _config())


class _Page(html.parser.HTMLParser):
    """What a browser would load and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_its_pictures_and_loads_nothing(facts: Description, tmp_path: Path) -> None:
    write_page(facts, tmp_path / "보고" / "r.html")
    page = _Page((tmp_path / "보고" / "r.html").read_text(encoding="utf-8"))
    pictures = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 6
    for source in pictures:
        kind, data = source.split(",", 1)
        assert kind == "data:image/png;base64"
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))
        assert pixels.shape[0] > 100
        assert float(np.ptp(pixels)) > 0.5, "an empty picture"
    assert {"script", "link", "iframe"}.isdisjoint({tag for tag, _ in page.tags})
    assert not any("href" in attributes for _, attributes in page.tags)


def test_what_the_files_hold_is_shown_and_not_run(facts: Description, tmp_path: Path) -> None:
    write_page(facts, tmp_path / "r.html")
    page = _Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert _HOSTILE in page.text
    assert "Data of my-shop" in page.text


def test_the_terminal_and_the_page_say_the_same(facts: Description, tmp_path: Path) -> None:
    output = io.StringIO()
    print_description(facts, Console(file=output, width=400))
    write_page(facts, tmp_path / "r.html")
    page = _Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    for wanted in (
        "data.split.min_positives: 1", "4 of 3 users with 3 of 3 items", "2001-09-09 01:46 to 2001-09-09 01:48 UTC",
        "2 items share their title with another", "text of the item",
    ):  # fmt: skip
        assert wanted in output.getvalue()
        assert wanted in page


def test_extremes_can_be_drawn(facts: Description) -> None:

    one = dataclasses.replace(
        facts, months={(1970, 1): 1, (2038, 12): 10**9}, languages={f"l{n}": n + 1 for n in range(60)}
    )
    assert len(render(one)) == 6


def test_the_command_writes_the_page_under_the_users_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    rows = "".join(f"u{n % 20},{n % 7},{1_700_000_000 + n},note {n}\n" for n in range(140))
    (tmp_path / "orders-2024-final.csv").write_text(f"user_id,item_id,timestamp,remark\n{rows}", encoding="utf-8")
    (tmp_path / "items.csv").write_text(
        "item_id,title,language\n" + "".join(f"{n},Tea {n},en\n" for n in range(7)), encoding="utf-8"
    )
    (tmp_path / "c.yaml").write_text(
        f"name: my-shop\ndata:\n  source: {{name: tabular, interactions: {tmp_path}/orders-2024-final.csv, "
        f"items: {tmp_path}/items.csv, default_event: purchase}}\n",
        encoding="utf-8",
    )
    assert main(["data", "--config", str(tmp_path / "c.yaml")]) == 0
    shown = capsys.readouterr().out
    page = tmp_path / "cache" / "reports" / "my-shop.html"
    assert f"Report with plots: {page}" in shown.replace("\n", "")
    assert shown.lstrip().startswith("my-shop")
    assert "columns not used by any model: remark" in " ".join(shown.split())
    assert re.search(r"interactions +orders-2024-final.csv +140 +0 +140", shown)
    assert main(["data", "--config", str(tmp_path / "c.yaml"), "--report", str(tmp_path)]) == 0
    assert (tmp_path / "my-shop.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["data", "--config", str(tmp_path / "c.yaml"), "--report", str(tmp_path / "c.yaml" / "r.html")]) == 1
    assert "Can't write the report" in capsys.readouterr().err


def test_the_report_is_written_although_the_settings_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    path = builders.write(tmp_path / "d").path
    (tmp_path / "c.yaml").write_text(
        f"name: few\ndata: {{source: {{name: dataset, path: {path}}}}}\n", encoding="utf-8"
    )
    assert main(["data", "--config", str(tmp_path / "c.yaml")]) == 1
    out, err = capsys.readouterr()
    assert "min_positives` to 1 or less" in " ".join(err.split())
    assert (tmp_path / "cache" / "reports" / "few.html").exists()
    assert "What remains after each setting" in out


def test_describing_needs_no_tensorflow() -> None:
    script = (
        "import sys, trainer.data.description, trainer.data.findings, trainer.evaluation.data_report\n"
        "heavy = {'tensorflow', 'tf_keras', 'lingua'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
