"""A small catalogue in five languages with two groups of taste, and a run trained on it."""

from pathlib import Path

import numpy as np
import polars as pl

from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.data.dataset import Dataset, write_dataset

_WORDS = {
    "en": ("space ship", "love letter"),
    "zh": ("太空飞船", "情书"),
    "ar": ("سفينة فضاء", "رسالة حب"),
    "th": ("ยานอวกาศ", "จดหมายรัก"),
    "ko": ("우주선", "연애 편지"),
}
LANGUAGES = tuple(_WORDS)
GENRES = ("Sci-Fi", "Romance")


def tiny_dataset(path: Path, *, items: int = 60, users: int = 80, seed: int = 0) -> Dataset:
    """Items alternate between two genres; each user likes one of them and rates the other low.

    One item has no image, every seventh no year, and the runtime is one large number for all.
    The item ``tail`` has no interaction at all. Every third user's language is Korean, the others' English.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(items):
        language = LANGUAGES[(number // 2) % len(LANGUAGES)]
        rows.append(
            {
                "item_id": f"i{number}",
                "language": language,
                "title": f"{_WORDS[language][number % 2]} {number}",
                "description": None if number % 3 else "🚀 and more",
                "categories": [GENRES[number % 2], *(["Old"] if number % 5 == 0 else [])],
                "year": None if number % 7 == 0 else 1980.0 + number,
                "runtime": 20_000_001.0,
                "image": None if number == 4 else rng.normal(size=4).astype(np.float32).tolist(),
            }
        )
    rows.append(rows[0] | {"item_id": "tail", "title": "space ship tail", "categories": ["Sci-Fi"]})
    events = []
    for user in range(users):
        taste = user % 2
        liked = rng.choice(np.arange(taste, items, 2), 12, replace=False)
        disliked = rng.choice(np.arange(1 - taste, items, 2), 4, replace=False)
        moments = rng.permutation(16)
        for place, item in enumerate([*liked, *disliked]):
            events.append(
                {
                    "user_id": f"u{user}",
                    "item_id": f"i{item}",
                    "timestamp": 1_600_000_000 + 86_400 * int(moments[place]),
                    "event": "rating",
                    "value": float(rng.integers(4, 6) if place < 12 else rng.integers(1, 3)),
                }
            )
    profiles = [
        {
            "user_id": f"u{user}",
            "languages": ["ko" if user % 3 == 0 else "en"],
            "country": "KR" if user % 3 == 0 else "US",
        }
        for user in range(users)
    ]
    return write_dataset(
        path,
        name="tiny",
        description="Two tastes in five languages.",
        licence="made by the tests",
        homepage="",
        interactions=pl.DataFrame(events),
        items=pl.DataFrame(rows, schema_overrides={"image": pl.List(pl.Float32)}),
        users=pl.DataFrame(profiles),
    )


def tiny_config(dataset: Path, **sections: dict[str, object]) -> Config:
    """Small and quick settings; sections are merged over them."""
    base: dict[str, dict[str, object]] = {
        "data": {"source": {"name": "dataset", "path": str(dataset)}},
        "model": {
            "dimension": 16,
            "linear": {"rank": 0},
            "retrieval": {"uniform_negatives": 16},
            "query": {"history_length": 8},
        },
        "training": {
            "epochs": 3,
            "batch_size": 64,
            "min_epoch_steps": 1,
            "learning_rate": 0.01,
            "warmup_steps": 5,
            "checkpoint_steps": 4,
        },
        # Tracing what a service needs takes as long as all the rest.
        "export": {"candidates": 20, "fresh_items": False},
    }
    merged = {name: base.get(name, {}) | sections.get(name, {}) for name in base.keys() | sections.keys()}
    return parse_config({"name": "tiny", **merged}, "tiny")
