"""Requests of the serving benchmarks, and load generators in processes of their own."""

import multiprocessing
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from benchmarks.harness.server import MODEL
from serving import contract
from serving.client.types import Query, inputs_of
from serving.protos import predict_pb2
from serving.tensors import to_proto

_LANGUAGES = ("en", "es", "zh", "ru", "ko", "ja", "ar", "de")
_TEXTS = (
    "space adventure with robots",
    "comedia romántica en París",
    "科幻电影 太空",
    "фильм про войну",
    "가족이 함께 보는 영화",
    "アニメ 冒険",
    "دراما عائلية",
    "ein alter Western",
)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def text_queries(count: int) -> list[Query]:
    """Distinct texts in many languages, for 20 items each."""
    return [
        Query(query=f"{_TEXTS[index % len(_TEXTS)]} {index}", language=_LANGUAGES[index % len(_LANGUAGES)], k=20)
        for index in range(count)
    ]


def request_of(queries: Sequence[Query]) -> bytes:
    """A serialised request for recommendations."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    for name, array in inputs_of(contract.DEFAULT, queries).items():
        request.inputs[name].CopyFrom(to_proto(array))
    return bytes(request.SerializeToString())


def in_process(function: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Calls a function in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, options)
