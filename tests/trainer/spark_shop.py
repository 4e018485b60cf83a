"""A made-up shop whose files have what real ones have: repeated times and pairs, unknown items, gaps, many scripts."""

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl

from serving.arguments import add_arguments, options_of
from trainer.documents import dump_yaml
from trainer.spark_data import SparkOptions

ITEMS = ["7", "12", "i1", "i-10", "東京", "मुंबई", "مرحبا", "ไทย", "한국어", "🎬", "ü", "u\u0308"]
_USERS = ["3", "21", "u5", "用户", "مستخدم", "ผู้ใช้", "사용자", "🙂", "é"]
START = 1_600_000_000


def write_shop(folder: Path, seed: int = 0) -> Path:
    """Interactions as three CSV files, items as two of JSON lines, users as Parquet; returns the config's file.

    Times repeat, pairs repeat, items are unknown, and one file has no value in a column that others fill.
    """
    random = np.random.default_rng(seed)
    (folder / "events").mkdir(parents=True)
    (folder / "items").mkdir()
    for part in range(3):
        lines = ["who,item_id,timestamp,event,value,impression_id,country,depth"]
        for _ in range(90):
            time = START + int(random.integers(60))
            kind = random.choice(["view", "click", "purchase", "rating", "hide", "impression"])
            fields = (
                random.choice(_USERS),
                random.choice([*ITEMS, "gone", "未知"]),
                time,
                kind,
                random.integers(1, 6) if kind == "rating" else "",
                f"m{time // 5}" if random.random() < 0.5 else "",
                random.choice(["KR", "", "TH"]),
                "" if part == 1 else round(float(random.random()), 3),
            )
            lines.append(",".join(map(str, fields)))
        (folder / "events" / f"part-{part}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for part in range(2):
        rows = [
            {
                "item_id": item,
                "title": f"Título {item}",
                "description": None if place % 3 else "mehr dazu",
                "language": ["es", "ko", "th"][place % 3],
                "categories": ["新", "عام"][: place % 3],
                "price": 1.5 * place if place % 2 else None,
                "image": [0.5 * place, 1.0] if place != 1 else None,
            }
            for place, item in enumerate(ITEMS)
            if place // 6 == part
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "items" / f"{part}.jsonl").write_text(text, encoding="utf-8")
    users = {
        "user_id": _USERS[:5],
        "languages": [["ko"], [], ["th", "en"], ["ar"], ["zh"]],
        "country": ["KR"] + [None] * 4,
    }
    pl.DataFrame(users).write_parquet(folder / "users.parquet")
    return write_config(folder)


def write_config(folder: Path, **sections: object) -> Path:
    """The config of a shop whose tables are in ``folder``; a given section replaces its own."""
    config = folder / "shop.yaml"
    source = {
        "name": "tabular",
        "interactions": str(folder / "events"),
        "items": str(folder / "items"),
        "users": str(folder / "users.parquet"),
        "columns": {
            "interactions": {"user_id": "who", "depth": "depth"},
            "items": {"price": "price", "image": "image"},
        },
        "drop_unknown_items": True,
    }
    positives = {"click": None, "purchase": None, "rating": 4.0}
    data = {
        "source": source,
        "positives": positives,
        "refusals": True,
        "split": {"min_positives": 2, "cold_items": 0.2},
    }
    config.write_text(dump_yaml({"name": "shop", "data": data} | sections), encoding="utf-8")
    return config


def options(config: Path, output: Path | str, **changes: object) -> SparkOptions:
    """Those of a command line with ``changes``."""
    parser = argparse.ArgumentParser()
    add_arguments(parser, SparkOptions)
    found = parser.parse_args(["--config", str(config), "--output", str(output)])
    return options_of(SparkOptions, argparse.Namespace(**vars(found) | changes))
