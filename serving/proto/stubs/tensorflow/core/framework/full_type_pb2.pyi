# fmt: off
# ruff: noqa
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FullTypeId(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TFT_UNSET: _ClassVar[int]
    TFT_VAR: _ClassVar[int]
    TFT_ANY: _ClassVar[int]
    TFT_PRODUCT: _ClassVar[int]
    TFT_NAMED: _ClassVar[int]
    TFT_FOR_EACH: _ClassVar[int]
    TFT_CALLABLE: _ClassVar[int]
    TFT_TENSOR: _ClassVar[int]
    TFT_ARRAY: _ClassVar[int]
    TFT_OPTIONAL: _ClassVar[int]
    TFT_LITERAL: _ClassVar[int]
    TFT_ENCODED: _ClassVar[int]
    TFT_SHAPE_TENSOR: _ClassVar[int]
    TFT_BOOL: _ClassVar[int]
    TFT_UINT8: _ClassVar[int]
    TFT_UINT16: _ClassVar[int]
    TFT_UINT32: _ClassVar[int]
    TFT_UINT64: _ClassVar[int]
    TFT_INT8: _ClassVar[int]
    TFT_INT16: _ClassVar[int]
    TFT_INT32: _ClassVar[int]
    TFT_INT64: _ClassVar[int]
    TFT_HALF: _ClassVar[int]
    TFT_FLOAT: _ClassVar[int]
    TFT_DOUBLE: _ClassVar[int]
    TFT_BFLOAT16: _ClassVar[int]
    TFT_COMPLEX64: _ClassVar[int]
    TFT_COMPLEX128: _ClassVar[int]
    TFT_STRING: _ClassVar[int]
    TFT_DATASET: _ClassVar[int]
    TFT_RAGGED: _ClassVar[int]
    TFT_ITERATOR: _ClassVar[int]
    TFT_MUTEX_LOCK: _ClassVar[int]
    TFT_LEGACY_VARIANT: _ClassVar[int]
TFT_UNSET: int
TFT_VAR: int
TFT_ANY: int
TFT_PRODUCT: int
TFT_NAMED: int
TFT_FOR_EACH: int
TFT_CALLABLE: int
TFT_TENSOR: int
TFT_ARRAY: int
TFT_OPTIONAL: int
TFT_LITERAL: int
TFT_ENCODED: int
TFT_SHAPE_TENSOR: int
TFT_BOOL: int
TFT_UINT8: int
TFT_UINT16: int
TFT_UINT32: int
TFT_UINT64: int
TFT_INT8: int
TFT_INT16: int
TFT_INT32: int
TFT_INT64: int
TFT_HALF: int
TFT_FLOAT: int
TFT_DOUBLE: int
TFT_BFLOAT16: int
TFT_COMPLEX64: int
TFT_COMPLEX128: int
TFT_STRING: int
TFT_DATASET: int
TFT_RAGGED: int
TFT_ITERATOR: int
TFT_MUTEX_LOCK: int
TFT_LEGACY_VARIANT: int

class FullTypeDef(_message.Message):
    __slots__ = ("type_id", "args", "s", "i")
    TYPE_ID_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    S_FIELD_NUMBER: _ClassVar[int]
    I_FIELD_NUMBER: _ClassVar[int]
    type_id: int
    args: _containers.RepeatedCompositeFieldContainer[FullTypeDef]
    s: str
    i: int
    def __init__(self, type_id: _Optional[_Union[int, str]] = ..., args: _Optional[_Iterable[_Union[FullTypeDef, _Mapping[str, object]]]] = ..., s: _Optional[str] = ..., i: _Optional[int] = ...) -> None: ...
