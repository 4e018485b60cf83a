"""Free-text wishes on MovieLens-100k: the same wish in sixteen languages."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.suites.ours import ours
from benchmarks.suites.suite import OURS, Model, Suite
from trainer.runs import Run

CONFIG = "configs/wishes.yaml"
PROTOCOL = "free-text wishes"
OVERLAP = "overlap@10"
WORST = "overlap@10 worst language"
_WISHES = Path(__file__).resolve().parent.parent / "wishes.yaml"
_METRICS = (OVERLAP, WORST, "ndcg@10 by genre", "ndcg@10 by genre worst language")


def suite() -> Suite:
    """Babelrec, the encoder's own cosine, and chance."""
    models = (_model(OURS), _model("mUSE cosine"), _model("random"))
    return Suite("movielens-100k", PROTOCOL, "Forty wishes in 16 languages", models, headline=OVERLAP)


def _model(name: str) -> Model:
    """The peers rest on texts and seed alone; the run only says which."""
    facts = {"wishes": hashlib.sha256(_WISHES.read_bytes()).hexdigest(), "model": name}
    model = ours(CONFIG, lambda run, seed: _found(run.path)[name], also=facts)
    return replace(model, name=name, seeds=model.seeds[:1] if name == "mUSE cosine" else model.seeds)


@functools.lru_cache(maxsize=4)
def _found(path: Path) -> Mapping[str, Mapping[str, float]]:
    from trainer.evaluation.wishes import evaluate_wishes, load_wishes

    results = evaluate_wishes(Run.open(path), load_wishes(_WISHES))
    return {result.model: {name: result.metrics()[name] for name in _METRICS} for result in results}


MAKERS = (suite,)
