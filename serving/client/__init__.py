"""A typed client of the model server; imports neither TensorFlow nor anything of ``trainer``.

from serving.client import RecommenderClient

with RecommenderClient("localhost:8500") as client:
    for item in client.recommend(user_id="42", language="es", k=10):
        print(item.item_id, item.title, item.score)
"""

from serving.client.api import RecommenderClient
from serving.client.errors import (
    BadRequestError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    ServerFaultError,
    ServingError,
    UnreachableError,
)
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
    "BadRequestError",
    "DeadlineExceededError",
    "ModelMetadata",
    "ModelNotFoundError",
    "OverloadedError",
    "Query",
    "RankedItem",
    "Recommendation",
    "RecommenderClient",
    "ServerFaultError",
    "ServingError",
    "SignatureSpec",
    "TensorSpec",
    "UnreachableError",
    "VersionStatus",
]
