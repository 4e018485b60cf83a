"""A typed client for the model server, over gRPC or REST; imports neither TensorFlow nor anything from ``trainer``.

from serving.client import Query, RecommenderClient

with RecommenderClient("localhost:8500") as client:
    for item in client.recommend(Query(user_id="42", language="es", k=10)):
        print(item.item_id, item.title, item.score)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.client.client import AsyncRecommenderClient, RecommenderClient
    from serving.client.errors import (
        AccessDeniedError,
        BadRequestError,
        DeadlineExceededError,
        ModelNotFoundError,
        OverloadedError,
        ServerFaultError,
        ServingError,
        UnreachableError,
    )
    from serving.client.settings import Keepalive, RetryPolicy, TlsOptions
    from serving.client.sharded import AsyncShardedClient, ShardedAnswer, ShardedClient
    from serving.client.types import (
        ModelMetadata,
        Query,
        RankedItem,
        Recommendation,
        SignatureSpec,
        TensorSpec,
        VersionStatus,
    )

__all__ = [
    "AccessDeniedError",
    "AsyncRecommenderClient",
    "AsyncShardedClient",
    "BadRequestError",
    "DeadlineExceededError",
    "Keepalive",
    "ModelMetadata",
    "ModelNotFoundError",
    "OverloadedError",
    "Query",
    "RankedItem",
    "Recommendation",
    "RecommenderClient",
    "RetryPolicy",
    "ServerFaultError",
    "ServingError",
    "ShardedAnswer",
    "ShardedClient",
    "SignatureSpec",
    "TensorSpec",
    "TlsOptions",
    "UnreachableError",
    "VersionStatus",
]

_HOMES = ("errors", "types", "settings", "client", "sharded")


def __getattr__(name: str) -> object:
    # Names are resolved on first use: the command line answers `--help` and usage errors without loading gRPC and
    # NumPy, and can turn off gRPC's logging first, since gRPC reads its environment when it is loaded.
    if name in __all__:
        for home in _HOMES:
            try:
                module = import_module(f"{__name__}.{home}")
            except AttributeError as error:  # `from serving.client import ...` would take it for an unknown name
                raise ImportError(f"{__name__}.{home} can't be loaded: {error}") from error
            if name in vars(module):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
