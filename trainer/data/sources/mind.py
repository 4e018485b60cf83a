"""MIND: impressions and click histories of Microsoft News, with xMIND's translations of the articles."""

import logging
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError, reading
from trainer.data.languages import LanguageError, normalise
from trainer.data.settings import MindSource
from trainer.data.sources.unknown_items import drop_unknown
from trainer.files import data_mirror

VERSION: Final = 1
# ISO 639-3 codes in the names of xMIND's files.
XMIND_CODES: Final = (
    *("cmn", "fin", "grn", "hat", "ind", "jpn", "kat", "ron", "som", "swh", "tam", "tha", "tur", "vie"),
)
_TIME: Final = "%m/%d/%Y %I:%M:%S %p"
_NEWS: Final = (
    *("item_id", "category", "subcategory", "title", "description", "url", "title_entities", "abstract_entities"),
)
_BEHAVIORS: Final = ("impression_id", "user_id", "time", "history", "candidates")
_LOG = logging.getLogger(__name__)


def inputs(source: MindSource) -> list[Path]:
    """The files that the dataset is built from.

    Raises:
        DatasetError: The folder is not given or lacks a file.
    """
    folder = _folder(source)
    return [folder / "behaviors.tsv", folder / "news.tsv", *_translation_files(source, folder)]


def write(source: MindSource, path: Path) -> Dataset:
    """Creates the dataset at ``path``.

    Raises:
        DatasetError: A file is broken, or there is no text in the requested ``item_language``.
    """
    folder = _folder(source)
    with tempfile.TemporaryDirectory() as scratch:
        texts = [_texts(_read_tsv(folder / "news.tsv", _NEWS).select("item_id", "title", "description"), "en")]
        for n, file in enumerate(_translation_files(source, folder)):
            texts.append(_translation(file, Path(scratch) / f"{n}.tsv"))
        shown, hidden = _choose(texts, source.item_language)
        items = _items(shown, folder / "news.tsv")
        history, impressions = _events(folder / "behaviors.tsv")
        history, history_lost = drop_unknown(history, items)
        impressions, impressions_lost = drop_unknown(impressions, items)
        return write_dataset(
            path,
            name="mind",
            description="News impressions and click histories of MIND, articles with xMIND's translations.",
            licence="MIND: Microsoft Research License Terms; xMIND: CC BY-NC-SA 4.0",
            homepage="https://msnews.github.io",
            interactions=pl.concat([history, impressions]),
            items=items,
            translations=hidden if len(texts) > 1 else None,
            dropped={
                "clicks of histories on articles without text": history_lost,
                "candidates of impressions without text": impressions_lost,
            },
        )


def language_of(file: Path) -> str:
    """The BCP 47 language in the name of a translation file, such as ``xMINDsmall_dev.cmn.zip`` -> ``zh``.

    xMIND's codes are searched in the file's name, from its end, then in the name of its folder. Other files
    may have any BCP 47 tag before the extension: ``news.pt-BR.tsv``.

    Raises:
        DatasetError: No language is found.
    """
    parts = [*reversed(file.name.split(".")[:-1]), file.parent.name]
    for part in parts:
        if part in XMIND_CODES:
            return normalise(part)
    try:
        return normalise(parts[0])
    except LanguageError as error:
        raise DatasetError(
            f"{file}: its name indicates no language. Remedy: name it like xMINDsmall_dev.cmn.zip, with one of "
            f"{', '.join(XMIND_CODES)} or a BCP 47 tag before the extension."
        ) from error


def _folder(source: MindSource) -> Path:
    mirror = data_mirror()
    remedy = (
        "Remedy: get a split from https://msnews.github.io and set `data.source.path` to the folder of its "
        "behaviors.tsv and news.tsv, or put them into $BABELREC_DATA_MIRROR/mind-sample"
    )
    if source.path is None and mirror is None:
        raise DatasetError(f"MIND is not downloaded automatically, and no folder is given. {remedy}.")
    folder = source.path if source.path is not None else mirror / "mind-sample" if mirror else Path()
    missing = [name for name in ("behaviors.tsv", "news.tsv") if not (folder / name).is_file()]
    if missing:
        raise DatasetError(f"MIND is incomplete in {folder}: {', '.join(missing)} missing. {remedy}.")
    return folder


def _translation_files(source: MindSource, folder: Path) -> list[Path]:
    if source.translations:
        return list(source.translations)
    found = (file for file in folder.glob("xMIND*") if file.suffix in (".zip", ".tsv"))
    return sorted(found, key=lambda file: file.name)


def _read_tsv(file: Path, columns: tuple[str, ...]) -> pl.LazyFrame:
    """Scans a tab-separated file without header, in which quotes are plain characters."""
    with reading(str(file)):
        return pl.scan_csv(
            file, separator="\t", has_header=False, quote_char=None, schema=dict.fromkeys(columns, pl.String)
        )


def _translation(file: Path, extracted: Path) -> pl.LazyFrame:
    language = language_of(file)
    if file.suffix == ".zip":
        try:
            with zipfile.ZipFile(file) as archive:
                member = next((name for name in archive.namelist() if name.endswith(".tsv")), None)
                if member is None:
                    raise DatasetError(f"{file} holds no .tsv file. Remedy: download it again.")
                with archive.open(member) as packed, extracted.open("wb") as plain:
                    shutil.copyfileobj(packed, plain)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise DatasetError(f"{file} can't be unpacked: {error}. Remedy: download it again.") from error
    else:
        extracted = file
    with reading(str(file)):
        # Unlike MIND's own files, these quote fields that contain quotes.
        frame = pl.scan_csv(extracted, separator="\t", infer_schema=False)
        names = frame.collect_schema().names()
        if names != ["nid", "title", "abstract"]:
            raise DatasetError(
                f"{file}: its columns are {', '.join(names)} instead of nid, title, abstract. Remedy: "
                "use xMIND's files unchanged."
            )
    return _texts(frame.rename({"nid": "item_id", "abstract": "description"}), language)


def _texts(frame: pl.LazyFrame, language: str) -> pl.LazyFrame:
    """item_id, language, title, description of the articles that have any text; one row per article."""
    text = pl.col("title", "description").str.strip_chars()
    return (
        frame.with_columns(text)
        .with_columns(
            pl.col("title").fill_null(""),
            pl.when(pl.col("description") != "").then("description").alias("description"),
            pl.lit(language).alias("language"),
        )
        .filter((pl.col("title") != "") | pl.col("description").is_not_null())
        .unique("item_id", keep="first", maintain_order=True)
        .select("item_id", "language", "title", "description")
    )


def _choose(texts: list[pl.LazyFrame], wanted: str | None) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Divides the texts into one per article, in the requested language if available, and all others.

    Without a requested language, or a text in it, the original precedes translations, which follow in
    the order of their files.
    """
    everything = pl.concat(
        [frame.with_columns(pl.lit(rank, pl.Int32).alias("rank")) for rank, frame in enumerate(texts, 1)]
    ).unique(["item_id", "language"], keep="first", maintain_order=True)
    if wanted is not None:
        tag = normalise(wanted)
        languages = everything.select(pl.col("language").unique().sort())
        present = languages.collect(engine="streaming")["language"]
        if tag not in present:
            raise DatasetError(
                f"`data.source.item_language`: no article has a text in {tag!r}; available: "
                f"{', '.join(present)}. Remedy: add xMIND's file of that language to "
                "`data.source.translations`."
            )
        everything = everything.with_columns(
            pl.when(pl.col("language") == tag).then(0).otherwise("rank").cast(pl.Int32).alias("rank")
        )
    best = everything.group_by("item_id").agg(pl.col("rank").min())
    shown = everything.join(best, on=["item_id", "rank"], how="semi", maintain_order="left").drop("rank")
    hidden = everything.join(best, on=["item_id", "rank"], how="anti", maintain_order="left").drop("rank")
    return shown, hidden


def _items(shown: pl.LazyFrame, news: Path) -> pl.LazyFrame:
    found = pl.concat_list(
        pl.col("title_entities", "abstract_entities")
        .fill_null("")
        .str.extract_all(r'"WikidataId":\s*"Q\d+"')
        .list.eval(pl.element().str.extract(r"(Q\d+)"))
    )
    facts = (
        _read_tsv(news, _NEWS)
        .select(
            "item_id",
            pl.concat_list("category", "subcategory").list.drop_nulls().alias("categories"),
            found.list.unique(maintain_order=True).alias("entities"),
        )
        .unique("item_id", keep="first", maintain_order=True)
    )
    return shown.join(facts, on="item_id", how="left", maintain_order="left").with_columns(
        pl.col("categories", "entities").fill_null([])
    )


def _events(file: Path) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Clicks of the histories, and the candidates of the impressions, as interactions.

    A history has an order but no times, and precedes the log. So its clicks are placed one second
    apart, each user's newest one second before the log's first impression.
    """
    log = _read_tsv(file, _BEHAVIORS).with_columns(
        (pl.col("time").str.to_datetime(_TIME, strict=False).dt.epoch("s")).alias("timestamp")
    )
    return interactions_of(log, _first_time(log, file))


def interactions_of(log: pl.LazyFrame, begin: int) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Clicks of the histories, and the candidates of the impressions, as interactions.

    Args:
        log: impression_id, user_id, timestamp, history (ids), candidates (``id-1`` was clicked).
        begin: When the first impression is; histories end one second before.
    """
    history = (
        log.filter(pl.col("history").is_not_null())
        .select("user_id", pl.col("history").str.split(" ").alias("item_id"))
        .with_columns(pl.col("item_id").list.len().cast(pl.Int64).alias("length"))
        # Every impression repeats its user's history; if they differ, the longest contains the others.
        .sort("length", descending=True, maintain_order=True)
        .unique("user_id", keep="first", maintain_order=True)
        .with_columns(pl.int_ranges(pl.lit(begin) - pl.col("length"), begin).alias("timestamp"))
        .explode("item_id", "timestamp")
        .filter(pl.col("item_id") != "")
        .select(
            "user_id",
            "item_id",
            "timestamp",
            pl.lit("click").alias("event"),
            pl.lit(1.0).alias("value"),
            pl.lit(None, pl.String).alias("impression_id"),
            pl.lit(None, pl.Int32).alias("position"),
        )
    )
    # In the public test split the clicks are withheld: candidates are then impressions with unknown outcome.
    label = pl.col("candidate").str.extract(r"-([01])$")
    impressions = (
        log.select("user_id", "timestamp", "impression_id", pl.col("candidates").str.split(" ").alias("candidate"))
        .with_columns(pl.int_ranges(1, pl.col("candidate").list.len() + 1, dtype=pl.Int32).alias("position"))
        .explode("candidate", "position")
        .filter(pl.col("candidate") != "")
        .select(
            "user_id",
            pl.col("candidate").str.replace(r"-[01]$", "").alias("item_id"),
            "timestamp",
            pl.when(label == "1").then(pl.lit("click")).otherwise(pl.lit("impression")).alias("event"),
            label.cast(pl.Float64).alias("value"),
            "impression_id",
            "position",
        )
    )
    return history, impressions


def _first_time(log: pl.LazyFrame, file: Path) -> int:
    with reading(str(file)):
        broken = log.with_row_index("row").filter(
            pl.col("timestamp").is_null() | pl.col("user_id").is_null() | pl.col("candidates").is_null()
        )
        first = broken.head(1).collect(engine="streaming")
        begin = log.select(pl.col("timestamp").min()).collect(engine="streaming").item()
    if not first.is_empty():
        raise DatasetError(
            f"{file}, row {first['row'][0] + 1}: not an impression of MIND; its user is "
            f"{first['user_id'][0]!r}, its time {first['time'][0]!r}. Remedy: a row is impression, user, "
            "time (11/9/2019 2:14:46 PM), history and candidates, separated by tabs."
        )
    if begin is None:
        raise DatasetError(f"{file} is empty. Remedy: use the file of a whole split.")
    return int(begin)
