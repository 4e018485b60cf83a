"""Invoice lines of a shop, as in Online Retail II: prices, quantities, cancellations, countries."""

import tempfile
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.data.faults import DatasetError
from trainer.data.languages import normalise
from trainer.data.settings import BasketsSource, TableFormat
from trainer.data.sources.numbers import to_number
from trainer.data.sources.parts import part_files
from trainer.data.sources.published import QUOTED, Published, first_file, located, read_published
from trainer.data.sources.times import to_seconds
from trainer.data.sources.workbook import ENDINGS, sheets_as_csv

VERSION: Final = 1
_REMEDY: Final = (
    "get Online Retail II (https://archive.ics.uci.edu/dataset/502), an archive with a workbook, or its sheets as CSV"
)
_LINES: Final = {
    "user_id": ("user_id", "Customer ID", "CustomerID"),
    "item_id": ("item_id", "StockCode"),
    "timestamp": ("time", "InvoiceDate"),
    "invoice": ("invoice", "Invoice", "InvoiceNo"),
    "quantity": ("quantity", "Quantity"),
    "unit_price": ("unit_price", "Price", "UnitPrice"),
    "event": ("event",),
    "title": ("Description",),
    "country": ("Country",),
}
_ITEMS: Final = {"item_id": ("item_id",), "title": ("title",), "price": ("price_median",)}
_USERS: Final = {"user_id": ("user_id",), "country": ("country",)}
# Five digits and perhaps letters; POST, BANK CHARGES, TEST001 and the like are no products.
_PRODUCT: Final = r"^\d{5}[A-Za-z]{0,3}$"
# Dates as Excel writes them in English, where the published sheets are saved as CSV.
_EXCEL_DATE: Final = r"^\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}$"
_EXCEL: Final = TableFormat(quote='"', time_format="%m/%d/%Y %H:%M")
# As the workbook stores them.
_DAY_NUMBER: Final = r"^\d{5}(?:\.\d+)?$"
_DAYS: Final = TableFormat(quote='"', time_unit="excel_days")
# Names of ISO 3166 that the shop shortens, and those that are no country.
COUNTRIES: Final = {
    **{"Australia": "AU", "Austria": "AT", "Bahrain": "BH", "Belgium": "BE", "Bermuda": "BM", "Brazil": "BR"},
    **{"Canada": "CA", "Cyprus": "CY", "Czech Republic": "CZ", "Denmark": "DK", "EIRE": "IE", "Finland": "FI"},
    **{"France": "FR", "Germany": "DE", "Greece": "GR", "Hong Kong": "HK", "Iceland": "IS", "Israel": "IL"},
    **{"Italy": "IT", "Japan": "JP", "Korea": "KR", "Lebanon": "LB", "Lithuania": "LT", "Malta": "MT"},
    **{"Netherlands": "NL", "Nigeria": "NG", "Norway": "NO", "Poland": "PL", "Portugal": "PT", "RSA": "ZA"},
    **{"Saudi Arabia": "SA", "Singapore": "SG", "Spain": "ES", "Sweden": "SE", "Switzerland": "CH"},
    **{"Thailand": "TH", "United Arab Emirates": "AE", "United Kingdom": "GB", "USA": "US"},
}


def inputs(source: BasketsSource) -> list[Path]:
    """The files of lines, and those of items and users if they are apart."""
    lines, items, users = _files(source)
    return [*lines, *(file for file in (items, users) if file is not None)]


def write(source: BasketsSource, path: Path) -> Dataset:
    """Creates the dataset at ``path``: a line is a purchase, a cancelled one a `dislike`.

    Raises:
        DatasetError: A file is missing or broken.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.read.") as scratch:
        files, items_file, users_file = _files(source)
        if files[0].name.lower().endswith(ENDINGS):
            files = sheets_as_csv(files[0], Path(scratch))
        table = read_published(
            files, "interactions", _LINES, Path(scratch), optional=("event", "title", "country", "user_id")
        )
        interactions, texts = _events(table)
        read = {"interactions": table.facts}
        if items_file is None:
            items = _items_of(texts, table)
        else:
            listed = read_published([items_file], "items", _ITEMS, Path(scratch))
            listed.need("item_id")
            listed.frame = to_number(listed.frame, "price", pl.Float64(), listed.origin, QUOTED, ",")
            items = listed.origin.collect(listed.finish("item_id", "title", "price"))
            read["items"] = listed.facts
        if users_file is None:
            users = texts.select("user_id", "country").unique("user_id", keep="first", maintain_order=True)
        else:
            known = read_published([users_file], "users", _USERS, Path(scratch))
            known.need("user_id")
            users = known.origin.collect(known.finish("user_id", "country"))
            read["users"] = known.facts
        return write_dataset(
            path,
            name="baskets",
            description="Invoice lines of a shop: prices, quantities, cancellations, countries.",
            licence="Online Retail II: CC BY 4.0",
            homepage="https://archive.ics.uci.edu/dataset/502",
            interactions=interactions,
            items=items.select(
                "item_id",
                pl.lit(normalise(source.language)).alias("language"),
                # Capitals throughout are another text to a sentence encoder.
                pl.col("title").fill_null("").str.strip_chars().str.to_lowercase(),
                pl.lit(None, pl.String).alias("description"),
                pl.lit([], pl.List(pl.String)).alias("categories"),
                "price",
            ),
            users=users.select(
                "user_id",
                pl.lit([], pl.List(pl.String)).alias("languages"),
                pl.col("country").replace_strict(COUNTRIES, default=None, return_dtype=pl.String),
            ),
            dropped=table.dropped,
            origins={"interactions": table.origin},
            read=read,
        )


def _files(source: BasketsSource) -> tuple[list[Path], Path | None, Path | None]:
    place = located(source.path, "online-retail-prices", "Invoice lines", _REMEDY)
    if place.is_file():
        return [place], None, None
    books = [file for end in ENDINGS for file in sorted(place.glob(f"*{end}"))]
    if books:
        return books[:1], None, None
    events = first_file(place, ("events",))
    if events is None:
        return part_files(place), None, None
    items, users = first_file(place, ("items",)), first_file(place, ("users",))
    if items is None or users is None:
        raise DatasetError(f"{place} has events, but not items and users. Remedy: get the whole folder.")
    return [events], items, users


def _events(table: Published) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """The lines of customers about products, and what they say of products and customers."""
    given = table.columns
    table.need("invoice")
    if "user_id" in given:
        # A spreadsheet's numbers may have a decimal place.
        user = pl.col("user_id").cast(pl.String).str.strip_chars().str.replace(r"\.0$", "")
        table.frame = table.frame.with_columns(user.alias("user_id"))
        table.drop(pl.col("user_id").fill_null("") == "", "lines without a customer")
    table.frame = table.frame.with_columns(pl.col("item_id").cast(pl.String).str.strip_chars().str.to_uppercase())
    is_product = pl.col("item_id").fill_null("").str.contains(_PRODUCT)
    table.drop(~is_product, "lines about no product (postage, fees, tests)")
    for name in ("quantity", "unit_price"):
        table.frame = to_number(table.frame, name, pl.Float64(), table.origin, QUOTED, ",")
    table.drop(pl.col("unit_price").fill_null(0.0) <= 0.0, "lines without a price")
    table.need("user_id", "quantity")
    texts = pl.col("timestamp").cast(pl.String)
    is_excel, is_day = table.origin.aggregate(
        table.frame, excel=texts.str.contains(_EXCEL_DATE).all(), days=texts.str.contains(_DAY_NUMBER).all()
    )
    form = _EXCEL if is_excel else _DAYS if is_day else QUOTED
    table.frame = to_seconds(table.frame, "timestamp", table.origin, form, table.facts)
    line = pl.struct("invoice", "user_id", "item_id", "timestamp", "quantity", "unit_price")
    # The published sheets share the first days of December 2010.
    table.drop(line.is_duplicated() & ~line.is_first_distinct(), "exact repeats of a line")
    cancelled = pl.col("invoice").cast(pl.String).str.starts_with("C") | (pl.col("quantity") < 0)
    if "event" in given:
        cancelled = cancelled | (pl.col("event") == "cancel")
    amount = pl.col("quantity").abs() * pl.col("unit_price")
    said = table.origin.collect(
        table.frame.select(
            "user_id",
            "item_id",
            "unit_price",
            (pl.col("title") if "title" in given else pl.lit(None, pl.String)).alias("title"),
            (pl.col("country") if "country" in given else pl.lit(None, pl.String)).alias("country"),
        )
    )
    return (
        table.finish(
            "user_id",
            "item_id",
            "timestamp",
            pl.when(cancelled).then(pl.lit("dislike")).otherwise(pl.lit("purchase")).alias("event"),
            amount.alias("value"),
            pl.col("invoice").cast(pl.String),
            pl.col("quantity").abs(),
            "unit_price",
        ),
        said,
    )


def _items_of(texts: pl.DataFrame, table: Published) -> pl.DataFrame:
    """Each product with its most frequent description and its median price."""
    if texts["title"].is_null().all():
        raise table.origin.fault("title", "no line has a description", "use the published sheets")
    named = texts.filter(pl.col("title").is_not_null()).group_by("item_id", "title").len()
    named = named.sort("item_id", pl.col("len"), "title", descending=[False, True, False])
    titles = named.unique("item_id", keep="first", maintain_order=True).select("item_id", "title")
    prices = texts.group_by("item_id").agg(pl.col("unit_price").median().alias("price")).sort("item_id")
    return prices.join(titles, on="item_id", how="left", maintain_order="left")
