"""LiteRT's generated reader of TFLite files."""

import importlib.util

from serving.private.interfaces import Interface

_MODULE = "ai_edge_litert.schema_py_generated"


def metadata(content: bytes, name: str) -> bytes | None:
    """The buffer of a model's metadata entry; None if there is no such entry.

    Args:
        content: a TFLite file. A malformed one raises any exception.
        name: the entry.
    """
    from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]

    root = schema.Model.GetRootAs(content)
    for number in range(root.MetadataLength()):
        entry = root.Metadata(number)
        if entry.Name() == name.encode():
            return bytes(root.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    return None


def _missing() -> list[str]:
    if importlib.util.find_spec("ai_edge_litert") is None:  # an extra, reported when a model needs it
        return []
    return [] if importlib.util.find_spec(_MODULE) is not None else [_MODULE]


INTERFACES = (
    Interface(
        "ai-edge-litert",
        "2.3",
        "by TFLite models with SignatureDefs",
        _missing,
        "Such models are refused",
    ),
)
