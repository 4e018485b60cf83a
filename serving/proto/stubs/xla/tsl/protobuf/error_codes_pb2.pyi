# fmt: off
# ruff: noqa
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OK: _ClassVar[int]
    CANCELLED: _ClassVar[int]
    UNKNOWN: _ClassVar[int]
    INVALID_ARGUMENT: _ClassVar[int]
    DEADLINE_EXCEEDED: _ClassVar[int]
    NOT_FOUND: _ClassVar[int]
    ALREADY_EXISTS: _ClassVar[int]
    PERMISSION_DENIED: _ClassVar[int]
    UNAUTHENTICATED: _ClassVar[int]
    RESOURCE_EXHAUSTED: _ClassVar[int]
    FAILED_PRECONDITION: _ClassVar[int]
    ABORTED: _ClassVar[int]
    OUT_OF_RANGE: _ClassVar[int]
    UNIMPLEMENTED: _ClassVar[int]
    INTERNAL: _ClassVar[int]
    UNAVAILABLE: _ClassVar[int]
    DATA_LOSS: _ClassVar[int]
    DO_NOT_USE_RESERVED_FOR_FUTURE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_: _ClassVar[int]
OK: int
CANCELLED: int
UNKNOWN: int
INVALID_ARGUMENT: int
DEADLINE_EXCEEDED: int
NOT_FOUND: int
ALREADY_EXISTS: int
PERMISSION_DENIED: int
UNAUTHENTICATED: int
RESOURCE_EXHAUSTED: int
FAILED_PRECONDITION: int
ABORTED: int
OUT_OF_RANGE: int
UNIMPLEMENTED: int
INTERNAL: int
UNAVAILABLE: int
DATA_LOSS: int
DO_NOT_USE_RESERVED_FOR_FUTURE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_: int
