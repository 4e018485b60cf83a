"""Answers: the model server's, with what has happened since its export.

`recommender` is what the interface calls. It reads who asks (`asking`, from `histories` and `people`), finds candidates
(`candidates`: the model's by `model`, those of the `fresh` `tiers`, which `facts` filters, or `popular` ones), and
makes a list of them (`listing`: rules, diversity, `exploring`), which `answer_log` writes down. `following` keeps
`catalogue`, `tiers` and `histories` in step with the store.
"""

from serving.client import AsyncRecommenderClient
from serving.service.options import ServiceOptions
from serving.service.recommender.model import ModelServer
from serving.service.recommender.recommender import LiveRecommender
from serving.service.recommender.settings import RecommenderSettings
from serving.service.store import Store

__all__ = ["LiveRecommender", "ModelServer", "RecommenderSettings", "open_recommender"]


def open_recommender(store: Store, options: ServiceOptions) -> LiveRecommender:
    """A recommender by the options of a command line, to be entered as an asynchronous context manager."""
    # The service retries by answering without the model, and asks again with the next request.
    client = AsyncRecommenderClient(options.model_server, options.model_name, retry=None)
    settings = RecommenderSettings(deadline=options.deadline_ms / 1000, explore=options.explore)
    return LiveRecommender(store, ModelServer(client), settings)
