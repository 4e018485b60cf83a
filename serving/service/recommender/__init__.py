"""Answers: the model server's, with what has happened since its export.

`model` asks the server, `histories` and `catalogue` hold what the store has heard, `fresh` the items that are not in
the model's index, `merging` puts both together, and `recommender` is what the interface calls.
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
