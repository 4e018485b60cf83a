"""Zero-shot P2: Babelrec, trained only on MovieLens, ranks KMRD's films by their titles."""

import functools
from collections.abc import Mapping
from pathlib import Path

from benchmarks.baselines.settings import NoSettings
from benchmarks.baselines.simple import MEAN_HISTORY, RANDOM, MeanHistorySettings
from benchmarks.harness.store import Model
from benchmarks.quality.suites.collaborative import ZERO_SHOT
from benchmarks.quality.suites.others import baseline_model
from benchmarks.quality.suites.ours import ours
from benchmarks.quality.suites.suite import Suite
from trainer.config.loading import load_config
from trainer.config.settings import Config
from trainer.data.settings import DataConfig
from trainer.runs import Run

ENGLISH = "recall@10 with English titles"
RATIO = "recall@10 Korean / English"
_TITLES = {"ko": "Korean", "en": "English"}


def suite() -> Suite:
    """Korean titles, English titles, and the ratio of both."""
    baselines = (
        baseline_model(RANDOM, NoSettings, functools.partial(_kmrd, "ko")),
        *(_mean_history(language, categories) for language in _TITLES for categories in (False, True)),
    )
    title = "KMRD after training on MovieLens only"
    return Suite("kmrd", "P2 zero-shot", title, (ours(ZERO_SHOT, _figures), *baselines))


def _mean_history(language: str, categories: bool) -> Model:
    return baseline_model(
        MEAN_HISTORY,
        lambda: MeanHistorySettings(categories=categories),
        functools.partial(_kmrd, language),
        name=f"mean-history mUSE, {_TITLES[language]} titles{' + genres' if categories else ''}",
    )


def _figures(run: Run, seed: int) -> Mapping[str, float]:
    from trainer.evaluation.protocols.zero_shot import evaluate_zero_shot

    korean, english = (evaluate_zero_shot(run, _config(language)).metrics for language in ("ko", "en"))
    recall, other = korean["recall@10"].value, english["recall@10"].value
    return {
        "recall@10": recall,
        "ndcg@10": korean["ndcg@10"].value,
        "recall@20": korean["recall@20"].value,
        ENGLISH: other,
        "ndcg@10 with English titles": english["ndcg@10"].value,
        RATIO: recall / other,
    }


def _config(language: str) -> Config:
    return load_config(Path("configs/kmrd.yaml"), [f"data.source.title_language={language}"])


def _kmrd(language: str) -> DataConfig:
    return _config(language).data


MAKERS = (suite,)
