"""Numbers -> JSON text, digit for digit like the real server.

``WriteDecimal`` in ``util/json_tensor.cc``: six significant digits where they read back as the same number,
nine (float) or seventeen (double) where they don't, ``.0`` after whole numbers without an exponent, and NaN,
Infinity, -Infinity.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

_FLOAT = struct.Struct("f")
# Below this many elements NumPy's fixed cost per operation outweighs what it saves.
_MIN_VECTOR = 128
# Powers of ten between which the usual numbers lie; index -> exponent - 4.
_BOUNDS = 10.0 ** np.arange(-3, 6)
_POWERS = 10.0 ** np.arange(13)


def _cells(before: str, after: str) -> npt.NDArray[np.uint32]:
    """Four ASCII characters for each of 000 ... 999, as one number each."""
    return np.frombuffer("".join(f"{before}{i:03d}{after}" for i in range(1000)).encode(), np.uint32)


# A row of text: "-ddd", "ddd.", "ddd ", "ddd ", "ddd ", "ddd ", ",  ". Unused characters become NUL.
_POINT_CELLS, _CELLS = _cells("", "."), _cells("", " ")
_TABLES = (_cells("-", ""), _POINT_CELLS, _CELLS, _CELLS, _CELLS, _CELLS)
_COMMA, _END = np.frombuffer(b", \0\0\n\0\0\0", np.uint32)
_WIDTH = 28
_TRAILING_ZEROS = np.array([3] + [len(str(i)) - len(str(i).rstrip("0")) for i in range(1, 1000)], np.int8)


def _masks() -> npt.NDArray[np.uint32]:
    """Masks of used characters: [negative, digits before the point - 1, digits after it - 1], and one for marks."""
    masks = np.zeros((2, 6, 12, _WIDTH), np.uint8)
    whole, fraction = [1, 2, 3, 4, 5, 6], [8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22]
    masks[1, :, :, 0] = 0xFF
    masks[..., [7, 24, 25]] = 0xFF
    for digits in range(6):
        masks[:, digits, :, whole[5 - digits :]] = 0xFF
    for digits in range(12):
        masks[:, :, digits, fraction[: digits + 1]] = 0xFF
    marked = np.zeros((1, _WIDTH), np.uint8)
    marked[0, [0, 24, 25]] = 0xFF
    return np.concatenate([masks.reshape(-1, _WIDTH), marked]).view(np.uint32)


_MASKS = _masks()
# The mask of a number that is formatted separately, and its placeholder until then.
_MARKED = len(_MASKS) - 1
_MARK = "?"


def decimal32(value: float) -> str:
    """A float (32 bit; other values are rounded to one) as JSON text."""
    value = _FLOAT.unpack(_FLOAT.pack(value))[0]
    text = f"{value:.6g}"
    if value - value != 0:
        return _special(value)
    if _FLOAT.unpack(_FLOAT.pack(float(text)))[0] != value:
        text = f"{value:.9g}"
    return text if "." in text or "e" in text else text + ".0"


def decimal64(value: float) -> str:
    """A double as JSON text."""
    if value - value != 0:
        return _special(value)
    text = f"{value:.6g}"
    if float(text) != value:
        text = f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


def number_rows(values: npt.NDArray[Any], separator: str) -> list[str]:
    """The JSON texts of the rows of an array of floats, integers or bools.

    Args:
        values: (rows, numbers in a row), neither of them 0.
        separator: text between the numbers of a row.
    """
    kind = values.dtype.kind
    if kind == "b":
        return [separator.join(["true" if value else "false" for value in row]) for row in values.tolist()]
    if kind in "iu":
        return [separator.join(map(str, row)) for row in values.tolist()]
    if values.dtype == np.float64:
        return [separator.join(map(decimal64, row)) for row in values.tolist()]
    values = values.astype(np.float32, copy=False)
    if values.size < _MIN_VECTOR:
        return [separator.join(map(decimal32, row)) for row in values.tolist()]
    return _float_rows(values.ravel(), values.shape[1], separator)


def _special(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _float_rows(values: npt.NDArray[np.float32], length: int, separator: str) -> list[str]:
    # In [1e-4, 1e6) %g writes no exponent, and a float has 24 bits: its product with a power of ten up to
    # 10^12 (28 bits without the twos) is exact in a double. So rounding that product gives the digits.
    # The rest (mostly none) is done one by one. All intermediate numbers are integers below 2^53.
    size = np.abs(values)
    usual = ((size >= np.float32(1e-4)) & (size < 1e6)) | (size == 0)
    size = np.where(usual, size, 0).astype(np.float64)
    exponent = np.searchsorted(_BOUNDS, size, "right") - 4
    scale = _POWERS[8 - exponent]
    six_scale = _POWERS[5 - exponent]
    nine = np.rint(size * scale)
    six = np.rint(size * six_scale)
    # Rounding twice (to a double, then to a float) does no harm for any number of six digits in this range.
    short = (six / six_scale).astype(np.float32) == size
    digits = np.where(short, six * 1000, nine)

    whole = np.floor(digits / scale)
    fraction = (digits - whole * scale) * _POWERS[4 + exponent]
    high = np.floor(fraction / 1e6)
    groups: list[npt.NDArray[np.int64]] = []
    for part in (whole, high, fraction - high * 1e6):
        part = part.astype(np.int32)
        first = part // 1000
        groups += [first, part - first * 1000]
    text = np.empty((len(values), _WIDTH // 4), np.uint32)
    for column, (table, group) in enumerate(zip(_TABLES, groups, strict=True)):
        text[:, column] = table.take(group)
    text[:, -1] = _COMMA
    text[length - 1 :: length, -1] = _END
    last = 2 - _TRAILING_ZEROS.take(groups[2])
    for end, group in zip((5, 8, 11), groups[3:], strict=True):
        last = np.where(group != 0, end - _TRAILING_ZEROS.take(group), last)
    key = (np.signbit(values) * 6 + np.maximum(exponent, 0)) * 12 + np.maximum(last, 0)
    unusual = np.flatnonzero(~usual)
    key[unusual] = _MARKED
    text.view(np.uint8)[unusual, 0] = ord(_MARK)
    text &= _MASKS.take(key, axis=0)

    rows = text.tobytes().translate(None, b"\0").decode()
    if len(unusual):
        pieces = rows.split(_MARK)
        others = map(decimal32, values[unusual].tolist())
        rows = "".join([part for pair in zip(pieces, others, strict=False) for part in pair]) + pieces[-1]
    return [row.replace(", ", separator) for row in rows.split("\n")[:-1]]
