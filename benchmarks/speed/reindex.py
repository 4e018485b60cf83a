"""Processor time of a re-index of 100,000 products, 1 % of them changed, compared with a full export.

A model is trained briefly on synthetic products in six languages, with titles of about eight words and descriptions
of about forty. Then each of these runs as a process of its own, whose processor seconds (user and system, with its
children) are counted:

* ``full``: an export without anything to reuse: no vectors of texts, no statistics of the run, no version before;
* ``reindex``: `trainer.task export --catalogue` with half a per cent of the titles changed, a quarter of a per cent of
  the items new and as many gone, and with all that ``full`` left behind;
* ``full_warm``: ``full`` again, but with the vectors of all texts at hand.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.harness.runner import Options, Result, progress, run
from benchmarks.harness.runs import LEARNING
from benchmarks.harness.sources import ROOT, digest
from benchmarks.harness.store import RESULTS
from benchmarks.harness.table import Table, at_least, at_most
from benchmarks.harness.timing import note_of_other_work
from benchmarks.speed.products import products
from serving.arguments import argument
from trainer.data.dataset import write_dataset
from trainer.errors import BabelrecError
from trainer.files import cache_root, write_text

_PACKAGES = ("tensorflow", "scann", "tensorflow-recommenders", "numpy")
_FOLDER = RESULTS / "reindex"
_INDEXES = ("index", "text_index")
_SEARCHED = "leaves_to_search"
_TABLES: tuple[Literal["float", "quantized"], ...] = ("float", "quantized")
_TITLES = {"full": "full", "full_warm": "full, vectors at hand", "reindex": "re-index"}
_SHARE = 0.01
_BAR = 0.2
_USERS = 1_000
_EVENTS_EACH = 20
_BEGAN = 1_600_000_000
_CONFIG = """name: products
data:
  source: {{name: dataset, path: {path}}}
  positives: {{view: null}}
model: {{linear: {{rank: 0}}}}
training: {{epochs: 1}}
export: {{index: scann}}
"""


@dataclass(frozen=True)
class _Options(Options):
    items: int = argument("--items", type=int, default=100_000, help="default: %(default)s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("speed.reindex", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


def _run(options: _Options, console: Console) -> Result:
    from trainer.models.statistics import STATISTICS_FILE

    folder = _folder(options.items)
    environment = _environment(folder)
    steps: dict[str, dict[str, Any]] = {}
    with progress(console) as bar:
        task = bar.add_task("Catalogues", total=5)
        own, later = _catalogues(folder, options.items)
        bar.update(task, advance=1, description="Training")
        run_dir = _trained(folder, own, environment)
        models, others = folder / "models", folder / "models_warm"
        for path in (models, others):
            shutil.rmtree(path, ignore_errors=True)
        bar.update(task, advance=1, description="Full export, vectors at hand")
        # Training leaves vectors, but no statistics; an earlier benchmark does.
        (run_dir / STATISTICS_FILE).unlink(missing_ok=True)
        steps["full_warm"] = _export(run_dir, others, environment)
        bar.update(task, advance=1, description="Full export")
        (run_dir / STATISTICS_FILE).unlink(missing_ok=True)
        shutil.rmtree(folder / "cache/vectors")
        steps["full"] = _export(run_dir, models, environment)
        bar.update(task, advance=1, description="Re-index")
        steps["reindex"] = _export(run_dir, models, environment, "--catalogue", str(later))
        bar.update(task, advance=1)
    ratio = steps["reindex"]["processor_seconds"] / steps["full"]["processor_seconds"]
    again = steps["reindex"]
    return {
        "items": options.items,
        "changed_share": _SHARE,
        "steps": steps,
        "ratio": ratio,
        "bars": [
            at_most("re-index: processor time over a full export's", ratio, _BAR),
            *(
                at_least(f"re-index: recall of the {name}", again[name]["recall"], again["recall_target"])
                for name in _INDEXES
            ),
        ],
    }


def _folder(items: int) -> Path:
    """Where data, run and models are kept, emptied if they are of other sources."""
    folder = (_FOLDER / str(items)).absolute()
    record, sources = folder / "sources.txt", digest((*LEARNING, "benchmarks/speed/products.py"))
    if not record.exists() or record.read_text(encoding="utf-8") != sources:
        shutil.rmtree(folder, ignore_errors=True)
        write_text(record, sources)
    return folder


def _environment(folder: Path) -> dict[str, str]:
    """Environment of the processes: a cache of their own, with the encoders of the user's."""
    from trainer.text.encoder import encoder_handle
    from trainer.text.settings import TextConfig

    for table in _TABLES:
        encoder_handle(TextConfig(), table=table)
    own = folder / "cache"
    own.mkdir(parents=True, exist_ok=True)
    if not (own / "encoders").exists():
        (own / "encoders").symlink_to((cache_root() / "encoders").resolve())
    return dict(os.environ) | {"BABELREC_CACHE": str(own), "TF_CPP_MIN_LOG_LEVEL": "2"}


def _catalogues(folder: Path, count: int) -> tuple[Path, Path]:
    """Dataset directories of the run's catalogue and of a later one; written unless they are there."""
    own, later = folder / "dataset", folder / "later"
    if own.exists() and later.exists():
        return own, later
    for path in (own, later):
        shutil.rmtree(path, ignore_errors=True)
    rng = np.random.default_rng(1)
    items = products(range(count))
    # Popularity decreases with the item's number, as in real catalogues.
    chosen = (count * rng.random(_USERS * _EVENTS_EACH) ** 3).astype(int)
    place = np.arange(len(chosen))
    events = pl.DataFrame(
        {
            "user_id": [f"u{number // _EVENTS_EACH}" for number in place],
            "item_id": [f"i{item}" for item in chosen],
            "timestamp": _BEGAN + place * 60,
            # Items shown but not viewed give the ranking head negatives.
            "event": np.where(place % 5 == 4, "impression", "view"),
            "value": 1.0,
        }
    )
    quarter = max(1, round(count * _SHARE / 4))
    picked = rng.permutation(count)[: 3 * quarter]
    gone, changed = picked[:quarter], picked[quarter:]
    renamed = pl.DataFrame(
        {"item_id": [f"i{item}" for item in changed], "renamed": products(changed.tolist(), seed=1)["title"]}
    )
    kept = pl.col("item_id").is_in([f"i{item}" for item in gone]).not_()
    after = items.filter(kept).join(renamed, on="item_id", how="left", maintain_order="left")
    after = after.with_columns(pl.coalesce("renamed", "title").alias("title")).drop("renamed")
    after = pl.concat([after, products(range(count, count + quarter))])
    for path, name, table, met in (
        (own, "products", items, events),
        (later, "products-later", after, events.filter(kept)),
    ):
        write_dataset(
            path,
            name=name,
            description="Synthetic products for a benchmark.",
            licence="made by benchmarks/speed/reindex.py",
            homepage="",
            interactions=met,
            items=table,
        )
    return own, later


def _trained(folder: Path, dataset: Path, environment: Mapping[str, str]) -> Path:
    """Directory of the run; trained unless it is finished."""
    run_dir, config = folder / "run", folder / "config.yaml"
    write_text(config, _CONFIG.format(path=dataset))
    _task(["fit", "--config", str(config), "--run-dir", str(run_dir)], environment)
    return run_dir


def _export(run_dir: Path, models: Path, environment: Mapping[str, str], *others: str) -> dict[str, Any]:
    """Seconds and memory of an export, and the recall of its indexes."""
    facts = _task(["export", "--run-dir", str(run_dir), "--model-dir", str(models), *others], environment)
    newest = max(models.glob("[0-9]*"), key=lambda path: int(path.name))
    card = json.loads((newest / "assets.extra/model_card.json").read_text(encoding="utf-8"))
    indexes = {
        name: {
            "recall": card[name]["recall"]["value"],
            "leaves": card[name]["leaves"],
            "searched": card[name][_SEARCHED],
        }
        for name in _INDEXES
    }
    return facts | indexes | {"recall_target": card["config"]["export"]["recall_target"]}


def _task(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Runs `trainer.task`.

    Raises:
        BabelrecError: It failed.
    """
    command = [sys.executable, "-m", "trainer.task", *arguments]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise BabelrecError(f"{' '.join(command)} failed:\n{log.read().decode(errors='replace')[-2000:]}")
    return {
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "seconds": time.perf_counter() - began,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def _page(result: Result) -> list[Table | str]:
    rows = [
        [
            _TITLES[name],
            f"{step['processor_seconds']:.1f}",
            f"{step['processor_seconds'] / result['steps']['full']['processor_seconds']:.3f}",
            f"{step['seconds']:.1f}",
            f"{step['peak_mb']:,.0f}",
            *(f"{step[index]['recall']:.4f}" for index in _INDEXES),
            *(f"{step[index]['searched']} of {step[index]['leaves']}" for index in _INDEXES),
        ]
        for name, step in result["steps"].items()
    ]
    columns = ("export", "processor s", "ratio", "s", "MB", "recall", "text recall", "leaves", "text leaves")
    title = f"{result['items']:,} products, {100 * result['changed_share']:g} % changed"
    return [Table(title, columns, rows), *note_of_other_work(result["environment"])]


if __name__ == "__main__":
    sys.exit(main())
