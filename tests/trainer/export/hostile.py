"""Asks every input of every signature for too much and tells what that cost: a program for a process of its own.

    python hostile.py MODEL REPORT    REPORT: JSON, a list of {case, bytes, megabytes, seconds, error}

``megabytes`` is the most that resident memory rose above what it was before the call, whose tensors were there already;
``seconds`` is processor time; ``bytes`` is what the request has on the wire.
"""

import ctypes
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the graph's operations)

from serving.protos import predict_pb2

_ENTRIES = 20_000
_LONG = 1_500_000
_SUSPICIOUS_MEGABYTES = 80
_ROWS = 32
# Of which the last are refused.
_MANY_ROWS = (128, 100_000)
Inputs = dict[str, tf.Tensor]
# One character of each length in UTF-8 and script that tokenisers and normal forms treat in a way of their own.
_SCRIPTS = {
    "latin": "a",
    "words": "space ship ",
    "arabic": "سفينة ",
    "thai": "ยานอวกาศ",
    "chinese": "太空飞船",
    "korean": "우주선 ",
    "emoji": "👩‍🚀🚀",
    "marks": "e" + "\u0301" * 40,
    "nul": "\0",
}
_NOT_TEXT = {"lone continuations": b"\x80", "broken leads": b"\xf0\x9f", "surrogates": b"\xed\xa0\x80", "ones": b"\xff"}
# What else a request says: each takes another way through the graph.
_AROUND: dict[str, dict[str, Any]] = {
    "nothing": {},
    "history": {"history": [["i1", "i2"]]},
    "text": {"query": ["우주선"], "language": ["ko"]},
}


def long_texts(size: int) -> Iterator[tuple[str, bytes]]:
    """Texts of so many bytes, by name; most end in the middle of a character."""
    for name, unit in _SCRIPTS.items():
        yield name, (b"x" + unit.encode() * (size // len(unit.encode()) + 1))[:size]
    for name, raw in _NOT_TEXT.items():
        yield name, (b"x" + raw * size)[:size]


def many(size: int) -> Iterator[tuple[str, list[bytes]]]:
    """Lists of so many entries, by name."""
    for known in ("ko", "Sci-Fi", "i7"):
        yield f"{known} again and again", [known.encode()] * size
    yield "items", [b"i%d" % (place % 3_000) for place in range(size)]
    yield "unknown", [b"x%d" % place for place in range(size)]
    yield "upper and lower case", [[b"KO", b"ko", b"Ko", b"kO"][place % 4] for place in range(size)]
    yield "empty", [b""] * size
    yield "NUL", [b"\0" * (place % 7) for place in range(size)]
    yield "no text", [bytes([128 + place % 128, 128 + place // 128 % 128]) for place in range(size)]


def cases(signature: tf.types.experimental.ConcreteFunction) -> Iterator[tuple[str, Inputs]]:
    """Hostile requests of a signature, by name."""
    specs = signature.structured_input_signature[1]
    arounds = {name: said for name, said in _AROUND.items() if said.keys() <= specs.keys()}
    for name, spec in specs.items():
        for kind, value in _lists(spec):
            for around, said in arounds.items():
                yield f"{name}: {kind}, beside {around}", _request(specs, said | {name: value})
        for place, (kind, value) in enumerate(_values(spec)):
            around = list(arounds)[place % len(arounds)]
            yield f"{name}: {kind}, beside {around}", _request(specs, arounds[around] | {name: value})
    name = "query" if "query" in specs else "text"
    for rows in _MANY_ROWS:
        for around, said in arounds.items():
            repeated = {key: value * rows for key, value in said.items()}
            yield f"{rows} rows, {around}", _request(specs, repeated or {name: [""] * rows})
    for size in (2_048, _LONG // _ROWS):
        for kind, text in long_texts(size):
            yield f"{name}: {_ROWS} rows of {size} bytes, {kind}", _request(specs, {name: [text] * _ROWS})


def _lists(spec: tf.TensorSpec) -> Iterator[tuple[str, list[list[bytes]]]]:
    """Values of an input of lists that are long."""
    if spec.shape.rank == 2:
        yield from ((f"many {kind}", [values]) for kind, values in many(_ENTRIES))
        yield from ((f"{_ROWS} rows of {kind}", [values] * _ROWS) for kind, values in many(_ENTRIES // _ROWS))


def _values(spec: tf.TensorSpec) -> Iterator[tuple[str, Any]]:
    """Values of an input that are long or extreme themselves."""
    if spec.dtype == tf.string and spec.shape.rank == 1:
        yield from ((f"long {kind}", [text]) for kind, text in long_texts(_LONG))
    elif spec.dtype == tf.string:
        yield from ((f"long {kind}", [[text]]) for kind, text in long_texts(_LONG))
        yield from ((f"several {kind}", [[text] * 60]) for kind, text in long_texts(_LONG // 60))
    elif spec.dtype == tf.bool:
        yield "true", [True]
    else:
        yield from ((str(value), [value]) for value in (spec.dtype.min, -1, 0, 1, 1_000_000, spec.dtype.max))


def _request(specs: dict[str, tf.TensorSpec], said: dict[str, Any]) -> Inputs:
    """Tensors of all inputs, as many rows as the longest has; the others' first row is repeated."""
    rows = max((len(value) for value in said.values()), default=1)
    inputs = {}
    for name, spec in specs.items():
        if name not in said:
            blank: Any = b"" if spec.dtype == tf.string else 10 if name == "k" else 0
            # A request to rank names an item at least.
            value = [blank] if spec.shape.rank == 1 else [["i1"]] if name == "item_ids" else [[]]
        else:
            value = said[name]
        values = np.array(value * (rows if len(value) == 1 else 1), object if spec.dtype == tf.string else None)
        inputs[name] = tf.constant(values, spec.dtype) if spec.dtype == tf.string else tf.cast(values, spec.dtype)
    return inputs


def wire_size(inputs: Inputs) -> int:
    """Bytes of a PredictRequest with these inputs in typed fields, the smallest form."""
    request = predict_pb2.PredictRequest()
    total = 0
    for name, value in inputs.items():
        # An entry's length prefix and tag, without a copy of all strings in Python.
        if value.dtype == tf.string:
            lengths = tf.strings.length(tf.reshape(value, [-1])).numpy()
            prefixes = np.where(lengths < 128, 2, np.where(lengths < 16_384, 3, 5))
            total += int(lengths.sum() + prefixes.sum()) + len(name) + 20
        else:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return total + request.ByteSize()


def _peak_above(call: Callable[[], object]) -> tuple[float, float, str]:
    """(MB above the start, processor seconds, error) of a call."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, start, error = _status("VmRSS"), time.process_time(), ""
    try:
        call()
    except tf.errors.OpError as failed:
        error = f"{type(failed).__name__}: {failed.message}"
    return (_status("VmHWM") - before) / 1e3, time.process_time() - start, error


def _status(field: str) -> int:
    """KB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(field)


def main(model: str, report: str) -> None:
    """Writes the report."""
    loaded = tf.saved_model.load(model)
    found = []
    for name, signature in loaded.signatures.items():
        # The functions of a signature are made at its first call.
        specs = signature.structured_input_signature[1]
        for said in _AROUND.values():
            if said.keys() <= specs.keys():
                signature(**_request(specs, said))
        for case, inputs in cases(signature):
            measured: list[tuple[float, float, str]] = []
            # What the allocator keeps varies by tens of megabytes: the least of three is what the request takes.
            while len(measured) < 3 and not (measured and measured[-1][0] < _SUSPICIOUS_MEGABYTES):
                measured.append(_peak_above(functools.partial(signature, **inputs)))
            megabytes, seconds, error = min(measured)
            found.append(
                {
                    "case": f"{name}, {case}",
                    "bytes": wire_size(inputs),
                    "megabytes": megabytes,
                    "seconds": seconds,
                    "error": error,
                }
            )
            print(json.dumps(found[-1])[:300], file=sys.stderr, flush=True)
    Path(report).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
