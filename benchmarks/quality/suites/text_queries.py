"""Free-text queries on MovieLens-100k: the same query in sixteen languages."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.harness.store import Model
from benchmarks.quality import TEXT_QUERIES
from benchmarks.quality.suites.ours import ours
from benchmarks.quality.suites.suite import OURS, Suite
from trainer.runs import Run

CONFIG = "configs/quickstart.yaml"
PROTOCOL = "free-text queries"
OVERLAP = "overlap@10"
WORST = "overlap@10 worst language"
_METRICS = (OVERLAP, WORST, "ndcg@10 by genre", "ndcg@10 by genre worst language")


def suite() -> Suite:
    """Babelrec, the encoder's own cosine, and random order."""
    models = (_model(OURS), _model("mUSE cosine"), _model("random"))
    return Suite("movielens-100k", PROTOCOL, "Forty text queries in 16 languages", models, headline=OVERLAP)


def _model(name: str) -> Model:
    """The baselines depend only on texts and seed, which the run determines."""
    facts = {"text_queries": hashlib.sha256(TEXT_QUERIES.read_bytes()).hexdigest(), "model": name}
    model = ours(CONFIG, lambda run, seed: _found(run.path)[name], also=facts)
    return replace(model, name=name, seeds=model.seeds[:1] if name == "mUSE cosine" else model.seeds)


@functools.lru_cache(maxsize=4)
def _found(path: Path) -> Mapping[str, Mapping[str, float]]:
    from trainer.evaluation.protocols.text_queries import evaluate_text_queries, load_text_queries

    results = evaluate_text_queries(Run.open(path), load_text_queries(TEXT_QUERIES))
    return {result.model: {name: result.metrics()[name] for name in _METRICS} for result in results}


MAKERS = (suite,)
