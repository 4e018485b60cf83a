"""A large synthetic catalogue, trained briefly and exported, for serving benchmarks.

What matters for serving is its size: 100,000 items with texts in several languages, a trained index over
them and the whole model. Its recommendations are meaningless.
"""

from pathlib import Path

import numpy as np
import polars as pl

from trainer import task
from trainer.data.dataset import write_dataset

ITEMS = 100_000
_USERS = 1_000
_EVENTS_EACH = 20
_SUBJECTS = {
    "en": ("space", "love", "war", "river", "doctor", "detective", "island", "summer", "robot", "music"),
    "es": ("espacio", "amor", "guerra", "río", "doctora", "detective", "isla", "verano", "robot", "música"),
    "de": ("Weltraum", "Liebe", "Krieg", "Fluss", "Ärztin", "Detektiv", "Insel", "Sommer", "Roboter", "Musik"),
    "ko": ("우주", "사랑", "전쟁", "강", "의사", "탐정", "섬", "여름", "로봇", "음악"),
    "zh": ("太空", "爱情", "战争", "河流", "医生", "侦探", "岛屿", "夏天", "机器人", "音乐"),
    "ar": ("الفضاء", "الحب", "الحرب", "النهر", "الطبيبة", "المحقق", "الجزيرة", "الصيف", "الروبوت", "الموسيقى"),
}
_LINKS = {"en": "of", "es": "de", "de": "und", "ko": "와", "zh": "与", "ar": "و"}


def titles(count: int = ITEMS, *, seed: int = 0) -> list[tuple[str, str]]:
    """(language, title) of synthetic items: two subjects and a number in one of six languages."""
    rng = np.random.default_rng(seed)
    languages = list(_SUBJECTS)
    made = []
    for number in range(count):
        language = languages[int(rng.integers(len(languages)))]
        words = _SUBJECTS[language]
        first, second = (words[int(index)] for index in rng.integers(len(words), size=2))
        made.append((language, f"{first} {_LINKS[language]} {second} {number}"))
    return made


def export_catalogue(folder: Path) -> Path:
    """Creates, trains and exports the catalogue below ``folder`` unless already done; returns the model directory."""
    model_dir = folder / f"model_{ITEMS}_scann"
    if any(model_dir.glob("[0-9]*")):
        return model_dir
    dataset = folder / f"dataset_{ITEMS}"
    if not dataset.exists():
        _write(dataset)
    run = folder / f"run_{ITEMS}"
    config = folder / f"config_{ITEMS}.yaml"
    config.write_text(
        f"""name: synthetic
data:
  source: {{name: dataset, path: {dataset.resolve()}}}
  positives: {{view: null}}
model: {{linear: {{rank: 0}}}}
training: {{epochs: 1}}
export: {{index: scann}}
""",
        encoding="utf-8",
    )
    steps = [
        ["fit", "--config", str(config), "--run-dir", str(run)],
        ["export", "--run-dir", str(run), "--model-dir", str(model_dir)],
    ]
    for step in steps:
        if task.main(step):
            raise RuntimeError(f"trainer.task {' '.join(step)} failed")
    return model_dir


def _write(path: Path) -> None:
    rng = np.random.default_rng(1)
    made = titles()
    users = np.repeat(np.arange(_USERS), _EVENTS_EACH)
    # Popularity decreases with the item's number, as in real catalogues.
    chosen = (ITEMS * rng.random(len(users)) ** 3).astype(int)
    events = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in chosen],
            "timestamp": 1_600_000_000 + np.arange(len(users)) * 60,
            # Items shown but not viewed give the ranking head negatives.
            "event": np.where(np.arange(len(users)) % 5 == 4, "impression", "view"),
            "value": 1.0,
        }
    )
    write_dataset(
        path,
        name="synthetic",
        description="Synthetic items for serving benchmarks.",
        licence="made by benchmarks/speed/catalogue.py",
        homepage="",
        interactions=events,
        items=pl.DataFrame(
            {
                "item_id": [f"i{number}" for number in range(ITEMS)],
                "language": [language for language, _ in made],
                "title": [title for _, title in made],
                "description": [None] * ITEMS,
                "categories": [[title.split()[0]] for _, title in made],
            },
            schema_overrides={"description": pl.String},
        ),
    )
