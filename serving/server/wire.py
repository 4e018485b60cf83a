"""Wire form of results, put together by NumPy.

Adding submessages one by one costs about a microsecond each in Python, which for thousands of classes is
more than the model takes. Field numbers are those of ``apis/classification.proto`` and
``apis/regression.proto``; tests compare with messages built field by field.
"""

import numpy as np
import numpy.typing as npt

_LABEL = b"\x0a"  # Class.label = 1, length-delimited
_SCORE = b"\x15"  # Class.score = 2, 32 bits
_VALUE = b"\x0d"  # Regression.value = 1, 32 bits
_MEMBER = b"\x0a"  # the repeated field 1 of the enclosing message


def varint(value: int) -> bytes:
    """A non-negative integer as protocol buffers write it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


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
    tails = [b""] * classes.size
    if scores is not None:
        tails = _prefixed_floats(_SCORE, scores).view("V5").ravel().tolist()
    members = [
        delimited(_MEMBER, delimited(_LABEL, label) + tail)
        for label, tail in zip(classes.ravel().tolist(), tails, strict=True)
    ]
    width = classes.shape[1]
    return b"".join([delimited(_MEMBER, b"".join(members[row * width : (row + 1) * width])) for row in range(count)])


def _prefixed_floats(prefix: bytes, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """[size, len(prefix) + 4] bytes: each value, little-endian, behind ``prefix``."""
    out = np.empty((values.size, len(prefix) + 4), np.uint8)
    out[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    out[:, len(prefix) :] = np.ascontiguousarray(values, "<f4").reshape(-1, 1).view(np.uint8)
    return out
