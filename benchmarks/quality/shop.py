"""A synthetic shop in six languages: listings, customers and orders as the CSV files of a small merchant."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.files import atomic_file

_WORDS: Final = Path(__file__).parent / "shop.yaml"
_CUSTOMERS: Final = 390
_START: Final = 1_735_689_600  # 2025-01-01
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Product:
    """One listing: ``kind`` is a key of shop.yaml, ``language`` a BCP 47 tag."""

    item_id: str
    kind: str
    language: str
    title: str


@dataclass(frozen=True, slots=True)
class Shop:
    """300 products, ten of each of 30 kinds, and every kind's name in every language.

    Attributes:
        products: The listings.
        names: Kind -> language -> name: what users type.
        orders: (customer, product, unix time).
    """

    products: list[Product]
    names: dict[str, dict[str, str]]
    orders: list[tuple[str, Product, int]]


def make_shop(seed: int = 0) -> Shop:
    """Generates the shop, deterministically by seed.

    A customer prefers one language, in which half of the purchases are, and three kinds of product; some
    products are far more popular than others. Titles are brand, kind and a detail, in the listing's language.
    """
    words = yaml.safe_load(_WORDS.read_text(encoding="utf-8"))
    draws = np.random.default_rng(seed)
    languages, kinds = list(words["details"]), list(words["kinds"])
    products: list[Product] = []
    for place, kind in enumerate(kinds):
        for number in range(10):
            language = languages[(place + number) % len(languages)]
            brand, detail = draws.choice(words["brands"]), draws.choice(words["details"][language])
            title = f"{brand} {words['kinds'][kind][language]} {detail}"
            products.append(Product(f"p{len(products):03d}", kind, language, title))
    appeal = draws.lognormal(0.0, 1.0, len(products))
    orders = []
    for number in range(_CUSTOMERS):
        language = draws.choice(languages)
        wanted = set(draws.choice(kinds, 3, replace=False))
        fits = np.array([product.kind in wanted for product in products])
        reads = np.array([product.language == language for product in products])
        weights = appeal * np.where(fits, 1.0, 0.02) * np.where(reads, 5.0, 1.0)
        count = min(int(draws.geometric(0.15)) + 1, 30)
        chosen = draws.choice(len(products), count, replace=False, p=weights / weights.sum())
        times = np.sort(draws.integers(0, 300 * _DAY, count)) + _START
        orders += [(f"c{number:03d}", products[row], int(time)) for row, time in zip(chosen, times, strict=True)]
    return Shop(products, words["kinds"], orders)


def write_shop(shop: Shop, directory: Path) -> Config:
    """Writes ``orders.csv`` and ``products.csv``; returns a config with default settings for them."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(
        directory / "orders.csv",
        [("user_id", "item_id", "timestamp")],
        [(customer, product.item_id, str(time)) for customer, product, time in shop.orders],
    )
    _write(
        directory / "products.csv",
        [("item_id", "title", "language")],
        [(product.item_id, product.title, product.language) for product in shop.products],
    )
    source = {
        "name": "tabular",
        "interactions": str(directory / "orders.csv"),
        "items": str(directory / "products.csv"),
        "default_event": "purchase",
    }
    return parse_config({"name": "shop", "data": {"source": source}}, "the synthetic shop")


def _write(path: Path, header: list[tuple[str, ...]], rows: list[tuple[str, ...]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(header + rows)
