"""Answers: the model server's, with what has happened since its export.

`recommender` is what the interface calls. It reads who asks (`asking`, from `histories` and `people`), chooses between
the versions of the model (`arms`; `trying` follows roll-outs), finds candidates (`candidates`: the model's by `model`,
those of the `fresh` `tiers`, which `facts` filters, or `popular` ones), and makes a list of them (`listing`: rules,
diversity, `exploring`), which `answer_log` writes down. `following` keeps `catalogue`, `tiers` and `histories` in step
with the store.
"""

from serving.client import AsyncRecommenderClient
from serving.service.options import ServiceOptions
from serving.service.recommender.model import ModelServer
from serving.service.recommender.recommender import LiveRecommender
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.trying import Connect, Rollouts
from serving.service.rollout.apart import Apart
from serving.service.rollout.controller import outcome_settings
from serving.service.rollout.settings import RolloutSettings
from serving.service.store import Store

__all__ = ["LiveRecommender", "ModelServer", "RecommenderSettings", "Rollouts", "open_recommender"]


def open_recommender(store: Store, options: ServiceOptions) -> LiveRecommender:
    """A recommender by the options of a command line, to be entered as an asynchronous context manager."""

    def connect(label: str | None = None, version: int | None = None) -> AsyncRecommenderClient:
        # The service retries by answering without the model, and asks again with the next request.
        return AsyncRecommenderClient(
            options.model_server, options.model_name, version=version, version_label=label, retry=None
        )

    settings = RecommenderSettings(deadline=options.deadline_ms / 1000, explore=options.explore)
    return LiveRecommender(
        store, ModelServer(connect()), settings, _rollouts(options, connect) if options.canary else None
    )


def _rollouts(options: ServiceOptions, connect: Connect) -> Rollouts:
    settings = RolloutSettings(
        shares=options.canary_shares,
        most_answers=options.canary_answers,
        most_days=options.canary_days,
        least_people=options.canary_people,
        margin=options.canary_margin,
    )
    return Rollouts(
        options.model_name, connect, settings, Apart(options.store, outcome_settings(settings, options.outcomes))
    )
