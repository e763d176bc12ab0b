"""Rates and sizes as people write and read them: "20 MB/s", "100 Mbit/s", "50 GB".

A rate says whether it counts bytes or bits, for half of all people mean the one by "20M", and half the other.
"""

import re

from protocol.errors import Refused

# At 1 Mbit/s a chunk of 1 MiB takes 8 s; much slower, and peers would take us for frozen (limits.BLOB_STALL_S).
RATE_BYTES_PER_S_MIN = 125_000.0
RATE_BYTES_PER_S_MAX = 1e12  # no line is so fast; more is a slip
SIZE_BYTES_MAX = 10**18
NONE = "none"
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SCALES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_NUMBER = r"(\d{1,18}(?:\.\d{1,6})?)"
_BYTES = re.compile(_NUMBER + r"\s*([kKMGT]?|[KMGT]i)B(?:/s|ps)?")
_BITS = re.compile(_NUMBER + r"\s*([kmgt]?|[kmgt]i)(?:bits?(?:/s|ps)?|(?-i:b)ps)", re.IGNORECASE)
_SIZE = re.compile(_NUMBER + r"\s*(?:([kmgt]|[kmgt]i)B?|B)", re.IGNORECASE)


_COMMA = re.compile(r"\d+,\d")
_LEAST = (
    "give at least 1Mbit/s (125kB/s), for more slowly than that, other nodes take this one for frozen; or none, "
    "which lifts the limit"
)


def rate_of(text: str) -> float | None:
    """Bytes per second, or None for `none`. Raises Refused for what may mean two things, or is out of bounds."""
    if text.strip().lower() == NONE:
        return None
    in_bytes, in_bits = _BYTES.fullmatch(text.strip()), _BITS.fullmatch(text.strip())
    match = in_bytes or in_bits
    if match is None:
        raise _no_rate(text)
    rate = float(match[1]) * _scale(match[2]) / (8 if in_bits else 1)
    if not RATE_BYTES_PER_S_MIN <= rate <= RATE_BYTES_PER_S_MAX:
        raise Refused(
            "bad-rate",
            f"{text[:40]} is not a rate that could be kept to",
            remedy=_LEAST,
        )
    return rate


def _no_rate(text: str) -> Refused:
    number = re.match(r"\d{1,15}(?:\.\d{1,6})?", text.strip())
    written = f"write bytes, such as {{0}}MB/s, or bits, such as {{0}}Mbit/s (with k, M or G), or {NONE}"
    if _COMMA.match(text.strip()):
        why, example = ": numbers have a point here, and no comma", "1.5"
    elif number and not float(number[0]):
        return Refused("bad-rate", f"{text[:40]!r} is no rate: nothing would come through", remedy=_LEAST)
    else:
        why, example = (": it does not say whether bytes or bits are meant", number[0]) if number else ("", "20")
    return Refused("bad-rate", f"{text[:40]!r} is no rate{why}", remedy=written.format(example))


def size_of(text: str) -> int | None:
    """Bytes, or None for `none`. Raises Refused."""
    if text.strip().lower() == NONE:
        return None
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _scale(match[2] or "")) if match else 0
    if not 0 < size <= SIZE_BYTES_MAX:
        why, example = "", "50G"
        if _COMMA.match(text.strip()):
            why = ": numbers have a point here, and no comma"
        elif re.fullmatch(_NUMBER, text.strip()) and float(text):
            why, example = ": it does not say of what", f"{text.strip()}G"
        remedy = f"write such as 500M, {example} or 1.5TB (B for single bytes), or {NONE}"
        raise Refused("bad-size", f"{text[:40]!r} is no size{why}", remedy=remedy)
    return size


def rate_text(bytes_per_s: float | None) -> str:
    """As `rate_of` reads it: 2.5 MB/s, or none."""
    return NONE if bytes_per_s is None else f"{size_text(bytes_per_s)}/s"


def rate_words(bytes_per_s: float | None) -> str:
    """For people, who think in either: 2.5 MB/s = 20 Mbit/s, or none."""
    if bytes_per_s is None:
        return NONE
    return f"{rate_text(bytes_per_s)} = {size_text(bytes_per_s * 8).removesuffix('B')}bit/s"


def size_text(size: float | None) -> str:
    """As `size_of` reads it, in the largest decimal unit that leaves a number of one or more, to the third place."""
    if size is None:
        return NONE
    units = ["", "k", "M", "G", "T"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{round(size, 3):g} {units[0]}B"


def _scale(letters: str) -> int:
    return _SCALES[letters.lower()]
