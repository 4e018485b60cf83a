"""Wire form of results, assembled by NumPy.

Adding submessages one by one costs about a microsecond each in Python, which for thousands of classes is
longer than the model takes. Field numbers are those of ``apis/classification.proto`` and
``apis/regression.proto``; tests compare with messages built field by field.
"""

import numpy as np
import numpy.typing as npt

from serving.tensors import varint

_LABEL = b"\x0a"  # Class.label = 1, length-delimited
_SCORE = b"\x15"  # Class.score = 2, 32 bits
_VALUE = b"\x0d"  # Regression.value = 1, 32 bits
_MEMBER = b"\x0a"  # the repeated field 1 of the enclosing message


def delimited(key: bytes, content: bytes) -> bytes:
    """A length-delimited field."""
    return key + varint(len(content)) + content


def regressions(values: npt.NDArray[np.float32]) -> bytes:
    """A ``RegressionResult`` of these values, in order."""
    return _prefixed_floats(_MEMBER + b"\x05" + _VALUE, values).tobytes()


def classifications(
    classes: npt.NDArray[np.object_] | None, scores: npt.NDArray[np.float32] | None, count: int
) -> bytes:
    """A ``ClassificationResult``.

    Args:
        classes: labels as bytes, [count, classes], or None.
        scores: [count, classes], or None.
        count: number of examples.
    """
    if classes is None:
        if scores is None:
            return delimited(_MEMBER, b"") * count
        rows = _prefixed_floats(_MEMBER + b"\x05" + _SCORE, scores).reshape(count, -1)
        head = _MEMBER + varint(rows.shape[1])
        return b"".join([head + row.tobytes() for row in rows])
    labels = classes.ravel().tolist()
    if scores is None:
        heads = _Heads(0)
        members = [heads[label] for label in labels]
    else:
        tails = _prefixed_floats(_SCORE, scores).view("V5").ravel().tolist()
        heads = _Heads(len(_SCORE) + 4)
        members = [heads[label] + tail for label, tail in zip(labels, tails, strict=True)]
    width = classes.shape[1]
    return b"".join([delimited(_MEMBER, b"".join(members[row * width : (row + 1) * width])) for row in range(count)])


class _Heads(dict[bytes, bytes]):
    """Label -> a ``Class`` up to and including the label, ``rest`` bytes before its end; the same for every row."""

    def __init__(self, rest: int) -> None:
        self._rest = rest

    def __missing__(self, label: bytes) -> bytes:
        field = delimited(_LABEL, label)
        head = self[label] = _MEMBER + varint(len(field) + self._rest) + field
        return head


def _prefixed_floats(prefix: bytes, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """[size, len(prefix) + 4] bytes: ``prefix`` followed by the value, little-endian."""
    out = np.empty((values.size, len(prefix) + 4), np.uint8)
    out[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    out[:, len(prefix) :] = np.ascontiguousarray(values, "<f4").reshape(-1, 1).view(np.uint8)
    return out
