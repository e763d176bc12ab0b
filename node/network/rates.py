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
_SCALES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SCALES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kKMGT]?|[KMGT]i)(B|bit)(?:/s|ps)?")
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([kKMGT]|[KMGT]i)?B?")


def rate_of(text: str) -> float | None:
    """Bytes per second, or None for `none`. Raises Refused for what may mean two things, or is out of bounds."""
    if text.strip().lower() == NONE:
        return None
    match = _RATE.fullmatch(text.strip())
    if match is None:
        number = re.match(r"\d{1,15}(?:\.\d{1,6})?", text.strip())
        example = number[0] if number else "20"
        raise Refused(
            "bad-rate",
            f"{text[:40]!r} is no rate: it does not say whether bytes or bits are meant"
            if number
            else f"{text[:40]!r} is no rate",
            remedy=f"write bytes, such as {example}MB/s, or bits, such as {example}Mbit/s (with k, M or G), or none",
        )
    rate = float(match[1]) * _scale(match[2]) / (1 if match[3] == "B" else 8)
    if not RATE_BYTES_PER_S_MIN <= rate <= RATE_BYTES_PER_S_MAX:
        raise Refused(
            "bad-rate",
            f"{text[:40]} is not a rate that could be kept to",
            remedy="give at least 1Mbit/s (125kB/s): more slowly than that, other nodes take this one for frozen",
        )
    return rate


def size_of(text: str) -> int | None:
    """Bytes, or None for `none`. Raises Refused."""
    if text.strip().lower() == NONE:
        return None
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _scale(match[2] or "")) if match else 0
    if not 0 < size <= SIZE_BYTES_MAX:
        raise Refused("bad-size", f"{text[:40]!r} is no size", remedy="write such as 500M, 50G or 1.5TB, or none")
    return size


def rate_text(bytes_per_s: float | None) -> str:
    """As `rate_of` reads it: 2.5 MB/s, or none."""
    return NONE if bytes_per_s is None else f"{size_text(bytes_per_s)}/s"


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
    return _SCALES["k" if letters == "K" else letters]
