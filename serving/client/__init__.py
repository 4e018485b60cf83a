"""A typed client of the model server, by gRPC or REST; imports neither TensorFlow nor anything of ``trainer``.

from serving.client import RecommenderClient

with RecommenderClient("localhost:8500") as client:
    for item in client.recommend(user_id="42", language="es", k=10):
        print(item.item_id, item.title, item.score)
"""

from serving.client.aio import AsyncRecommenderClient
from serving.client.api import RecommenderClient
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
from serving.client.options import Keepalive, RetryPolicy
from serving.client.tls import TlsOptions
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
    "SignatureSpec",
    "TensorSpec",
    "TlsOptions",
    "UnreachableError",
    "VersionStatus",
]
