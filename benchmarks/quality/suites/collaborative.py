"""P1 on MovieLens-100k and KMRD, and few-shot P2: baselines are trained on the same users as Babelrec."""

import dataclasses
import functools
from collections.abc import Mapping

from benchmarks.harness.store import SEEDS
from benchmarks.quality.suites.others import reference_baseline, tuned_baselines
from benchmarks.quality.suites.ours import ours
from benchmarks.quality.suites.suite import Suite
from trainer.runs import Run

MOVIELENS = "configs/movielens.yaml"
ZERO_SHOT = "configs/zero_shot.yaml"
_METRICS = ("recall@10", "ndcg@10", "recall@20", "hr@10", "mrr@10", "coverage@10")
_SHARES = {0.01: "kmrd-1-percent", 0.1: "kmrd-10-percent", 1.0: "kmrd"}


def p1_figures(run: Run, seed: int) -> Mapping[str, float]:
    """Metrics on the run's own test part, by whole requests."""
    from trainer.evaluation.protocols.collaborative import evaluate_collaborative

    report = evaluate_collaborative(run)
    return {name: report.metrics[name].value for name in _METRICS}


def movielens() -> Suite:
    """P1 on MovieLens-100k."""
    name = "movielens-100k"
    references = (
        reference_baseline("popularity", name, {}, "popularity"),
        reference_baseline("BPR", name, {"factors": 64, "learning_rate": 0.05, "regularization": 0.005}, "BPR 64"),
        reference_baseline(
            "ALS", name, {"factors": 64, "regularization": 10.0, "alpha": 5.0}, "ALS 64, reg 10, alpha 5"
        ),
        reference_baseline("EASE", name, {"regularization": 100.0}, "EASE, lambda 100"),
    )
    models = (ours(MOVIELENS, p1_figures), *tuned_baselines(name), *references)
    return Suite(name, "P1", "MovieLens-100k, collaborative quality", models)


def kmrd() -> Suite:
    """P1 on KMRD with Korean titles."""
    references = (
        reference_baseline("popularity", "kmrd", {}, "popularity"),
        reference_baseline(
            "ALS", "kmrd", {"factors": 32, "regularization": 10.0, "alpha": 2.0}, "ALS 32, reg 10, alpha 2"
        ),
        reference_baseline("EASE", "kmrd", {"regularization": 500.0}, "EASE, lambda 500"),
    )
    models = (ours("configs/kmrd.yaml", p1_figures), *tuned_baselines("kmrd"), *references)
    return Suite("kmrd", "P1", "KMRD, Korean titles, collaborative quality", models)


def few_shot(share: float) -> Suite:
    """P1 on KMRD after training on a share of its users; Babelrec starts from its run on MovieLens."""
    model = ours("configs/few_shot.yaml", p1_figures, [f"data.split.train_users={share}"], start=ZERO_SHOT)
    baselines = tuned_baselines(_SHARES[share])
    text = f"P2 few-shot {share:.0%}"
    # With a share, every seed draws different users.
    seeded = baselines if share == 1.0 else tuple(dataclasses.replace(baseline, seeds=SEEDS) for baseline in baselines)
    return Suite("kmrd", text, f"KMRD after training on {share:.0%} of its users", (model, *seeded))


MAKERS = (movielens, kmrd, *(functools.partial(few_shot, share) for share in _SHARES))
