"""Protobuf's functions for the code that protoc generates."""

from typing import Any

from google.protobuf.descriptor import FileDescriptor

from serving.private.interfaces import Interface

_NAMES = ("BuildMessageAndEnumDescriptors", "BuildTopDescriptorsAndMessages")


def _missing() -> list[str]:
    try:
        from google.protobuf.internal import builder
    except ImportError:
        return ["google.protobuf.internal.builder"]
    return [f"google.protobuf.internal.builder.{name}" for name in _NAMES if not hasattr(builder, name)]


def add_messages(descriptor: FileDescriptor, module: str, namespace: dict[str, Any]) -> None:
    """Adds the message classes and enums of a file to a module's namespace."""
    from google.protobuf.internal import builder

    builder.BuildMessageAndEnumDescriptors(descriptor, namespace)
    builder.BuildTopDescriptorsAndMessages(descriptor, module, namespace)


INTERFACES = (Interface("protobuf", "7.36", "for messages", _missing),)
