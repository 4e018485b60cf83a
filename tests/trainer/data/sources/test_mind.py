"""MIND with xMIND: histories, impressions, articles in several languages."""

import zipfile
from pathlib import Path

import polars as pl
import pytest

from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import MindSource
from trainer.data.sources import prepare
from trainer.data.sources.mind import XMIND_CODES, language_of

# 11/9/2019 12:00:05 AM, the log's first moment, in unix seconds (UTC).
BEGIN = 1_573_257_605
NEWS = "".join(
    "\t".join(row) + "\n"
    for row in [
        (
            "N1",
            "news",
            "newsus",
            'He said "no',
            "An abstract",
            "http://x",
            '[{"WikidataId": "Q1"}]',
            '[{"WikidataId": "Q2"}, {"WikidataId": "Q1"}]',
        ),
        ("N2", "sports", "golf", "Golf", "", "http://x", "[]", ""),
        ("N9", "news", "void", "", "", "http://x", "[]", "[]"),
    ]
)
BEHAVIORS = (
    "1\tU1\t11/10/2019 1:00:00 PM\tN1 N2 N404 N1\tN2-0 N3-1 N404-0\n"
    "2\tU2\t11/9/2019 12:00:05 AM\t\tN1-1 N9-0 N2-1\n"
    "3\tU1\t11/11/2019 1:00:00 AM\tN1 N2 N404 N1\tN1-0 N2-1\n"
)
CMN = 'nid\ttitle\tabstract\nN1\t"他說""不"""\t摘要\nN3\t只有中文\t\n'
FIN = "nid\ttitle\tabstract\nN1\tHän sanoi ei\t\nN3\tVain suomeksi\t\n"


def zipped(path: Path, text: str, member: str = "xMINDsmall_dev/news.tsv") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xMINDsmall_dev/", "")
        archive.writestr(member, text)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mind"
    path.mkdir()
    (path / "news.tsv").write_text(NEWS, encoding="utf-8")
    (path / "behaviors.tsv").write_text(BEHAVIORS, encoding="utf-8")
    zipped(path / "xMINDsmall_dev.cmn.zip", CMN)
    return path


def texts(frame: pl.LazyFrame | None) -> list[tuple[str, str, str]]:
    assert frame is not None
    return frame.select("item_id", "language", "title").collect().rows()


def test_history_and_impressions_become_events(folder: Path) -> None:
    dataset = prepare(MindSource(path=folder))
    log = dataset.interactions().collect()
    history = log.filter(pl.col("impression_id").is_null())
    assert history.select("user_id", "item_id", "timestamp", "event", "value").rows() == [
        ("U1", "N1", BEGIN - 4, "click", 1.0),
        ("U1", "N2", BEGIN - 3, "click", 1.0),
        ("U1", "N1", BEGIN - 1, "click", 1.0),
    ]
    shown = log.filter(pl.col("impression_id").is_not_null())
    noon = BEGIN - 5 + 86_400 + 13 * 3_600
    assert shown.select("impression_id", "user_id", "item_id", "timestamp", "event", "value", "position").rows() == [
        ("1", "U1", "N2", noon, "impression", 0.0, 1),
        ("1", "U1", "N3", noon, "click", 1.0, 2),
        ("2", "U2", "N1", BEGIN, "click", 1.0, 1),
        ("2", "U2", "N2", BEGIN, "click", 1.0, 3),
        ("3", "U1", "N1", noon + 12 * 3_600, "impression", 0.0, 1),
        ("3", "U1", "N2", noon + 12 * 3_600, "click", 1.0, 2),
    ]
    assert sum(dataset.dropped.values()) == 3
    assert Dataset.load(dataset.path).dropped == {
        "clicks of histories on articles without text": 1,
        "candidates of impressions without text": 2,
    }


def test_articles_have_one_item_and_further_translations(folder: Path) -> None:
    dataset = prepare(MindSource(path=folder))
    assert texts(dataset.items()) == [
        ("N1", "en", 'He said "no'),
        ("N2", "en", "Golf"),
        ("N3", "zh", "只有中文"),
    ]
    assert texts(dataset.translations()) == [("N1", "zh", '他說"不"')]
    first = dataset.items().collect().row(0, named=True)
    assert first["categories"] == ["news", "newsus"]
    assert first["entities"] == ["Q1", "Q2"]
    assert dataset.items().collect()["description"].to_list() == ["An abstract", None, None]


def test_item_language_shows_the_translation(folder: Path) -> None:
    dataset = prepare(MindSource(path=folder, item_language="cmn"))
    assert sorted(texts(dataset.items())) == [
        ("N1", "zh", '他說"不"'),
        ("N2", "en", "Golf"),
        ("N3", "zh", "只有中文"),
    ]
    assert texts(dataset.translations()) == [("N1", "en", 'He said "no')]
    assert dataset.items().filter(item_id="N1").collect()["categories"].to_list() == [["news", "newsus"]]


def test_several_languages(folder: Path) -> None:
    finnish = folder / "fin.tsv"
    finnish.write_text(FIN, encoding="utf-8")
    source = MindSource(path=folder, translations=[folder / "xMINDsmall_dev.cmn.zip", finnish])
    dataset = prepare(source)
    assert texts(dataset.items())[-1] == ("N3", "zh", "只有中文")
    assert sorted(texts(dataset.translations())) == [
        ("N1", "fi", "Hän sanoi ei"),
        ("N1", "zh", '他說"不"'),
        ("N3", "fi", "Vain suomeksi"),
    ]


def test_without_translations(folder: Path) -> None:
    (folder / "xMINDsmall_dev.cmn.zip").unlink()
    dataset = prepare(MindSource(path=folder))
    assert dataset.translations() is None
    assert [row[0] for row in texts(dataset.items())] == ["N1", "N2"]


def test_the_test_split_has_no_outcomes(folder: Path) -> None:
    (folder / "behaviors.tsv").write_text("1\tU1\t11/15/2019 8:00:00 AM\tN1\tN2 N3\n")
    log = prepare(MindSource(path=folder)).interactions().collect().filter(impression_id="1")
    assert log.select("item_id", "event", "value").rows() == [
        ("N2", "impression", None),
        ("N3", "impression", None),
    ]


def test_of_differing_histories_the_longest_counts(folder: Path) -> None:
    (folder / "behaviors.tsv").write_text(
        "1\tU1\t11/15/2019 8:00:00 AM\tN1\tN2-1\n2\tU1\t11/16/2019 8:00:00 AM\tN1 N2\tN2-1\n"
    )
    log = prepare(MindSource(path=folder)).interactions().collect()
    assert log.filter(pl.col("impression_id").is_null())["item_id"].to_list() == ["N1", "N2"]


def test_all_codes_of_xmind() -> None:
    wanted = ["zh", "fi", "gn", "ht", "id", "ja", "ka", "ro", "so", "sw", "ta", "th", "tr", "vi"]
    assert [language_of(Path(f"d/xMINDlarge_train.{code}.zip")) for code in XMIND_CODES] == wanted
    assert language_of(Path("xMIND/swh/news.tsv")) == "sw"
    assert language_of(Path("news.pt-BR.tsv")) == "pt-BR"


def test_a_name_without_language_is_an_error(folder: Path) -> None:
    zipped(folder / "translations.zip", CMN)
    with pytest.raises(DatasetError, match=r"indicates no language.*cmn"):
        prepare(MindSource(path=folder, translations=[folder / "translations.zip"]))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("2\tU2\t2019-11-09\tN1\tN2-1\n", r"row 2: .*'2019-11-09'"),
        ("2\tU2\n", r"row 2: not an impression"),
        ("", None),
    ],
)
def test_broken_behaviors_name_the_row(folder: Path, line: str, wanted: str | None) -> None:
    good = "1\tU1\t11/10/2019 1:00:00 PM\tN1\tN2-0\n"
    (folder / "behaviors.tsv").write_text(good + line)
    if wanted is None:
        assert prepare(MindSource(path=folder)).rows["interactions"] == 2
    else:
        with pytest.raises(DatasetError, match=wanted):
            prepare(MindSource(path=folder))


def test_an_empty_log_is_an_error(folder: Path) -> None:
    (folder / "behaviors.tsv").write_text("")
    with pytest.raises(DatasetError, match=r"behaviors\.tsv.*Remedy"):
        prepare(MindSource(path=folder))


def test_a_log_of_unknown_articles_is_an_error(folder: Path) -> None:
    (folder / "behaviors.tsv").write_text("1\tU1\t11/10/2019 1:00:00 PM\tN77\tN78-0\n")
    with pytest.raises(DatasetError, match="`interactions` is empty"):
        prepare(MindSource(path=folder))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [(b"PK\x03\x04 broken", "can't be unpacked"), (b"", "can't be unpacked")],
)
def test_a_broken_zip_is_reported(folder: Path, content: bytes, wanted: str) -> None:
    (folder / "xMINDsmall_dev.cmn.zip").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"cmn\.zip {wanted}"):
        prepare(MindSource(path=folder))


def test_a_translation_file_with_other_columns_is_reported(folder: Path) -> None:
    zipped(folder / "xMINDsmall_dev.cmn.zip", "id\ttitle\nN1\tx\n")
    with pytest.raises(DatasetError, match="its columns are id, title instead of nid, title, abstract"):
        prepare(MindSource(path=folder))


def test_an_absent_language_names_those_there_are(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no article has a text in 'fi'; available: en, zh"):
        prepare(MindSource(path=folder, item_language="fi"))


def test_missing_files_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "news.tsv").unlink()
    with pytest.raises(DatasetError, match=r"news\.tsv missing.*msnews\.github\.io"):
        prepare(MindSource(path=folder))
    monkeypatch.delenv("BABELREC_DATA_MIRROR", raising=False)
    with pytest.raises(DatasetError, match=r"no folder is given.*msnews\.github\.io"):
        prepare(MindSource())


def test_the_real_data(data_mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path))
    monkeypatch.setenv("BABELREC_DATA_MIRROR", str(data_mirror))
    dataset = prepare(MindSource())
    items = dataset.items().collect()
    assert dict(items["language"].value_counts().rows()) == {"en": 2_000, "zh": 42_416 - 1_110}
    assert dataset.rows["translations"] == 1_110
    log = dataset.interactions().collect()
    assert log["impression_id"].n_unique() - 1 <= 5_000
    # Counted by hand from the file: every candidate is an event or dropped for lack of text.
    candidates = sum(
        len(line.split("\t")[4].split())
        for line in (data_mirror / "mind-sample" / "behaviors.tsv").read_text().splitlines()
    )
    shown = log.filter(pl.col("impression_id").is_not_null()).height
    assert shown + dataset.dropped["candidates of impressions without text"] == candidates
    first = log.filter(pl.col("impression_id").is_not_null())["timestamp"].to_list()
    last = log.filter(pl.col("impression_id").is_null())["timestamp"].to_list()
    assert max(last) < min(first)
