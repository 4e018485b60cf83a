"""Five small data sets: a synthetic shop, and seeded user samples of real data.

Each is a directory in the dataset format, written once. Sources without a public download are read from the folder
BABELREC_DATA_MIRROR.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from trainer.data.dataset import write_dataset
from trainer.data.settings import KmrdSource, MovieLens100kSource
from trainer.data.sources import prepare
from trainer.errors import BabelrecError
from trainer.files import data_mirror

_SEED = 12
_DAY = 86_400
_START = 1_700_000_000
_KINDS = {
    "en": ("tent", "headphones", "frying pan", "raincoat", "desk lamp", "dog leash"),
    "de": ("Zelt", "Kopfhörer", "Bratpfanne", "Regenmantel", "Schreibtischlampe", "Hundeleine"),
    "es": ("tienda de campaña", "auriculares", "sartén", "impermeable", "lámpara de mesa", "correa para perros"),
    "ko": ("텐트", "헤드폰", "프라이팬", "우비", "책상 램프", "강아지 목줄"),
    "ar": ("خيمة", "سماعات", "مقلاة", "معطف مطر", "مصباح مكتب", "مقود كلب"),
}
_LABELS = ("Camping", "Audio", "Kitchen", "Clothing", "Home", "Pets")


@dataclass(frozen=True)
class SmallData:
    """One data set.

    Attributes:
        name: Name in the table.
        what: One-line description.
        make: Writes it to a new directory.
        positives: Event -> smallest value that counts as positive; None: the default.
    """

    name: str
    what: str
    make: Callable[[Path], None]
    positives: dict[str, float | None] | None = None

    def config(self, folder: Path) -> dict[str, object]:
        """Default settings with only a data section; writes the data if missing."""
        path = folder / self.name
        if not path.exists():
            self.make(path)
        data: dict[str, object] = {"source": {"name": "dataset", "path": str(path.resolve())}}
        if self.positives is not None:
            data["positives"] = self.positives
        return {"name": self.name, "data": data}


def make_shop(path: Path, *, products: int = 300, customers: int = 390, seed: int = _SEED) -> None:
    """A shop in five languages: customers mostly buy a few kinds of product, and popular ones more often.

    Each kind of product has four styles, and customers prefer some of them, so that there is more to learn than kinds
    and popularity.
    """
    rng = np.random.default_rng(seed)
    languages = list(_KINDS)
    kinds = rng.integers(len(_LABELS), size=products)
    styles = rng.integers(4, size=products)
    language_of = rng.integers(len(languages), size=products)
    appeal = rng.permutation(products) + 1.0
    items = pl.DataFrame(
        [
            {
                "item_id": f"p{row}",
                "language": languages[language_of[row]],
                "title": f"{_KINDS[languages[language_of[row]]][kinds[row]]} {row}",
                "description": None,
                "categories": [_LABELS[kinds[row]]],
            }
            for row in range(products)
        ],
        schema_overrides={"description": pl.String},
    )
    bought = []
    for customer in range(customers):
        taste = np.full(len(_LABELS), 0.15)
        taste[rng.choice(len(_LABELS), 2, replace=False)] = 3.0
        likes = taste[kinds] * np.where(styles == rng.integers(4), 4.0, 1.0) / appeal**0.6
        chosen = rng.choice(products, int(rng.integers(5, 16)), replace=False, p=likes / likes.sum())
        days = np.sort(rng.integers(0, 400, len(chosen)))
        bought += [
            {"user_id": f"c{customer}", "item_id": f"p{item}", "timestamp": _START + _DAY * int(day)}
            for item, day in zip(chosen, days, strict=True)
        ]
    events = pl.DataFrame(bought).with_columns(event=pl.lit("purchase"), value=pl.lit(None, pl.Float64))
    _write(path, "shop", events, items)


def _movielens(path: Path) -> None:
    source = prepare(MovieLens100kSource())
    _sample(path, "movielens", source.interactions().collect(), source.items().collect(), users=150, least=4.0)


def _kmrd(path: Path) -> None:
    source = prepare(KmrdSource(title_language="ko"))
    _sample(path, "kmrd", source.interactions().collect(), source.items().collect(), users=5_000, least=8.0)


def _retail(path: Path) -> None:
    folder = _mirror("online-retail-prices")
    events = (
        pl.read_csv(folder / "events.csv.gz", schema_overrides={"item_id": pl.String})
        .filter(event="purchase")
        .select(
            "user_id",
            "item_id",
            timestamp=pl.col("time").str.to_datetime("%Y-%m-%d %H:%M").dt.epoch("s"),
            event=pl.lit("purchase"),
            value=pl.lit(None, pl.Float64),
        )
        .sort("timestamp", "user_id", "item_id")
    )
    items = pl.read_csv(folder / "items.csv.gz", schema_overrides={"item_id": pl.String}).select(
        "item_id",
        language=pl.lit("en"),
        title=pl.col("title").fill_null("").str.to_lowercase(),
        description=pl.lit(None, pl.String),
        categories=pl.lit([], pl.List(pl.String)),
        price=pl.col("price_median"),
    )
    _sample(path, "retail", events, items, users=500)


def _xmarket(path: Path) -> None:
    ratings = pl.read_csv(_mirror("xmarket-electronics") / "ratings.csv.gz").filter(market="de")
    events = ratings.select(
        "user_id",
        item_id=pl.col("asin"),
        timestamp=pl.col("date").str.to_date("%Y-%m-%d").cast(pl.Datetime("ms")).dt.epoch("s"),
        event=pl.lit("rating"),
        value=pl.col("rating").cast(pl.Float64),
    ).sort("timestamp", "user_id", "item_id")
    items = events.select(pl.col("item_id").unique().sort()).select(
        "item_id",
        language=pl.lit("und"),
        title=pl.lit(""),
        description=pl.lit(None, pl.String),
        categories=pl.lit([], pl.List(pl.String)),
    )
    _sample(path, "xmarket", events, items, users=1_000, least=4.0)


ALL = (
    SmallData("shop", "synthetic shop, 300 products in five languages, 390 customers", make_shop),
    SmallData("movielens", "MovieLens-100k, 150 of its users", _movielens),
    SmallData("kmrd", "KMRD, Korean titles, 5,000 of its users", _kmrd, {"rating": 8.0}),
    SmallData("retail", "Online Retail, 500 of its customers", _retail),
    SmallData("xmarket", "XMarket electronics, Germany, 1,000 of its users; no texts", _xmarket),
)


def _mirror(folder: str) -> Path:
    root = data_mirror()
    if root is None or not (root / folder).is_dir():
        raise BabelrecError(
            f"The data of {folder} are missing. Set BABELREC_DATA_MIRROR to the folder that contains {folder}/, or "
            "exclude them with --data."
        )
    return root / folder


def _sample(
    path: Path, name: str, events: pl.DataFrame, items: pl.DataFrame, *, users: int, least: float | None = None
) -> None:
    """Keeps users with at least the five positives that the default split needs, and the items of their events."""
    positive = events if least is None else events.filter(pl.col("value") >= least)
    counts = positive.unique(["user_id", "item_id"]).group_by("user_id").len().filter(pl.col("len") >= 5)
    chosen = counts.select(pl.col("user_id").sort()).sample(min(users, counts.height), seed=_SEED, shuffle=True)
    kept = events.join(chosen, on="user_id", how="semi", maintain_order="left")
    _write(path, name, kept, items.join(kept, on="item_id", how="semi", maintain_order="left"))


def _write(path: Path, name: str, events: pl.DataFrame, items: pl.DataFrame) -> None:
    write_dataset(
        path,
        name=name,
        description="For the benchmark of small data.",
        licence="same as the source",
        homepage="",
        interactions=events,
        items=items,
    )
