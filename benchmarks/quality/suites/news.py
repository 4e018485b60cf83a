"""P3 on mind-sample: news impressions, by the language of history and candidates."""

import functools
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.store import Model
from benchmarks.quality.suites.ours import MEASURING, ours
from benchmarks.quality.suites.suite import Suite
from trainer.evaluation.report.contents import EvaluationReport, Metrics, Slices
from trainer.runs import Run

MIND = "configs/mind.yaml"
SAME = "auc zh → {}, same impressions"
_METRICS = ("auc", "mrr", "ndcg@5", "ndcg@10")
# Baseline name in evaluate_impressions -> name here.
_BASELINES = {"click-through": "popularity by clicks", "mean-history": "mean-history mUSE", "random": "random"}


def suite(config: str = MIND) -> Suite:
    """Babelrec, and the baselines evaluated on the same impressions."""
    models = (ours(config, lambda run, seed: _own(run)), *(_baseline(name, config) for name in _BASELINES))
    return Suite("mind-sample", "P3", "News impressions, Chinese and English", models, headline="auc zh → zh")


def _own(run: Run) -> Mapping[str, float]:
    report = _report(run.path)
    return _figures(report.metrics, report.slices)


def _baseline(name: str, config: str) -> Model:
    """A baseline depends only on the split and the texts, which the run determines."""
    model = ours(config, lambda run, seed: _of_baseline(run, name), also={"baseline": name})
    return Model(
        _BASELINES[name], model.measure, model.facts, MEASURING, model.seeds if name == "random" else model.seeds[:1]
    )


def _of_baseline(run: Run, name: str) -> Mapping[str, float]:
    found = next(result for result in _report(run.path).baselines if result.model == name)
    return _figures(found.metrics, found.slices)


def _figures(metrics: Metrics, slices: Slices) -> Mapping[str, float]:
    """Overall, per pair of languages, and for both candidate languages on the same lists."""
    found = {name: metrics[name].value for name in _METRICS}
    found |= {f"auc {pair}": part["auc"].value for pair, part in sorted(slices["language_pair"].items())}
    pairs = slices.get("same: en", {})
    return found | {
        SAME.format(language): pairs[f"zh → {language}"]["auc"].value
        for language in ("zh", "en")
        if f"zh → {language}" in pairs
    }


@functools.lru_cache(maxsize=4)
def _report(path: Path) -> EvaluationReport:
    from trainer.evaluation.protocols.impressions import evaluate_impressions

    return evaluate_impressions(Run.open(path))


MAKERS = (suite,)
