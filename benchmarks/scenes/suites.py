"""The scenes: each a config in configs/scenes (or configs/), its protocol, and the baselines tuned for it."""

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from benchmarks.harness.store import Model
from benchmarks.quality.suites import collaborative, news
from benchmarks.quality.suites.collaborative import p1_figures
from benchmarks.quality.suites.others import tuned_baselines
from benchmarks.quality.suites.ours import ours
from benchmarks.quality.suites.suite import OURS, Suite
from trainer.runs import Run

XMARKET = "configs/scenes/xmarket.yaml"
SMALL_MARKETS = ("jp", "in")
ALONE = "babelrec, this market alone"
P1_SCENES = {
    "online-retail": ("configs/scenes/online_retail.yaml", "Online Retail II: next products of a shop's customers"),
    "xmarket": (XMARKET, "XMarket electronics: seven markets, one catalogue"),
    "amazon-m2": ("configs/scenes/amazon_m2.yaml", "Amazon-M2, French sessions: next product"),
    "airbnb": ("configs/scenes/airbnb.yaml", "Inside Airbnb: next stay in Beijing, Singapore, Albany"),
}
"""Name -> config and title. MovieLens-100k and KMRD are scenes too, measured as in the quality benchmark."""


def scene_suites() -> list[Suite]:
    """The suites in table order."""
    shops = [_scene(name, config, title) for name, (config, title) in P1_SCENES.items()]
    films = [_tuned_only(make()) for make in (collaborative.movielens, collaborative.kmrd)]
    return [*shops, *films, news.suite(), _nemig(), *(transfer(market) for market in SMALL_MARKETS)]


def _scene(name: str, config: str, title: str) -> Suite:
    return Suite(name, "P1", title, (ours(config, p1_figures), *tuned_baselines(f"scenes/{name}")), headline="ndcg@10")


def _tuned_only(suite: Suite) -> Suite:
    """Without the rows that repeat docs/evaluation.md's reference table."""
    return replace(suite, models=tuple(model for model in suite.models if "(reference)" not in model.name))


def _nemig() -> Suite:
    return replace(
        news.suite("configs/scenes/nemig.yaml"), data="nemig", title="NeMig: news of two studies, German and English"
    )


def transfer(market: str) -> Suite:
    """A small market's users, after training with the other markets' ratings of its catalogue, and on it alone."""

    def figures(run: Run, seed: int) -> Mapping[str, float]:
        return _of_market(run, market)

    figures.__qualname__ = f"figures of {market}"
    together = ours(XMARKET, figures, [f"data.source.catalogue_of={market}", "evaluation.users=null"])
    alone = ours(XMARKET, figures, [f"data.source.markets=[{market}]", "evaluation.users=null"])
    models: tuple[Model, ...] = (together, replace(alone, name=ALONE))
    title = f"XMarket, the market {market}: trained with the other markets, and alone"
    return Suite(f"xmarket {market}", "transfer", title, models, headline="ndcg@10")


def _of_market(run: Run, market: str) -> Mapping[str, float]:
    from trainer.evaluation.protocols.collaborative import evaluate_collaborative

    users = evaluate_collaborative(run).users
    assert users is not None
    own = users.filter(pl.col("user_id").str.starts_with(f"{market}:"))
    return {name: float(own[name].mean()) for name in ("recall@10", "ndcg@10")} | {  # type: ignore[arg-type]
        "users": float(own.height)
    }


__all__ = ["ALONE", "OURS", "P1_SCENES", "SMALL_MARKETS", "XMARKET", "scene_suites", "transfer"]
