"""Validation of ``ModelConfig``s, with TensorFlow Serving's messages (``model_servers/server_core.cc``)."""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from serving.protos import model_server_config_pb2
from serving.server.errors import invalid_argument
from serving.server.lifecycle.policies import version_policy
from serving.server.operations.config_fields import refused_fields

_LOGGER = logging.getLogger(__name__)

ModelConfig = model_server_config_pb2.ModelConfig


def validated(
    models: Iterable[ModelConfig],
    former: Mapping[str, ModelConfig],
    platforms: Collection[str],
) -> dict[str, ModelConfig]:
    """ModelConfigs by name, if all are valid.

    Args:
        models: the ModelConfigs of a new configuration.
        former: those in force, by name.
        platforms: the platforms that can be loaded.

    Raises:
        StatusError: INVALID_ARGUMENT, one is invalid.
    """
    by_name: dict[str, ModelConfig] = {}
    for model in models:
        if model.name in by_name:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        for refused in refused_fields(model):
            raise invalid_argument(f"Model {model.name}: {refused}. This can't be honoured here; remedy: remove it")
        by_name[model.name] = model
    for name, model in by_name.items():
        if not name:
            raise invalid_argument(f"Expected every model to have a name; got an empty one for {model.base_path!r}")
        platform = _platform(model)
        if name in former and (old := _platform(former[name])) != platform:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {name} platform was {old} and new platform "
                f"requested is {platform}"
            )
        if platform not in platforms:
            raise invalid_argument(
                f"Model {name} requests unsupported platform {platform}. Supported: {', '.join(sorted(platforms))}"
            )
    return by_name


def _platform(model: ModelConfig) -> str:
    if model.model_type != model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        _LOGGER.warning(
            "Deprecated ModelServerConfig::model_type field used. Prefer ModelServerConfig::model_platform."
        )
        if model.model_platform:
            raise invalid_argument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
            )
        if model.model_type != model_server_config_pb2.TENSORFLOW:
            raise invalid_argument(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        return "tensorflow"
    if not model.model_platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    return str(model.model_platform)


def local_path(name: str, base_path: str) -> Path:
    """The directory of a base path.

    Raises:
        StatusError: it is relative, or not in a local file system.
    """
    if "://" in base_path:
        parts = urlsplit(base_path)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise invalid_argument(
                f"Base path {base_path} of model {name} is not in a local file system, and this server reads no other. "
                "Remedy: mount the bucket or share, or copy the versions to a local directory"
            )
        base_path = unquote(parts.path)
    if not base_path.startswith("/"):
        raise invalid_argument(f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}")
    return Path(base_path)


def same_source(new: ModelConfig, old: ModelConfig | None) -> bool:
    """Whether two ModelConfigs select the same versions."""
    return (
        old is not None
        and new.base_path == old.base_path
        and version_policy(new.model_version_policy) == version_policy(old.model_version_policy)
    )
