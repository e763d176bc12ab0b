"""What fuzzing is made of: decoders by name, and bytes that a hostile hand may have made of good ones.

FEDNODE_FUZZ_EXAMPLES says how many each decoder gets. Without it they are few, and the same in every run.
"""

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
from hypothesis import strategies as st

from protocol.errors import FednodeError

EXAMPLES = int(os.environ.get("FEDNODE_FUZZ_EXAMPLES", "0"))
EXAMPLES_BY_DEFAULT = 80
CPU_S_MAX = 1.0  # of one decoding of a few kilobytes: a hundred times what any takes
MEMORY_BYTES_MAX = 8 * 1024 * 1024  # beside what the bytes themselves take …
MEMORY_PER_BYTE_MAX = 256  # … so many times over: small objects made of single bytes

# Where a few bytes of msgpack say that four billion follow.
HUGE = (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff")
AWKWARD_BYTES = st.sampled_from(
    [*HUGE, b"\xc1", b"\xff" * 8, b"\x00" * 8, b"\x91" * 2000, b"[" * 5000, b'{"":' * 2000, b"\xed\xa0\x80"]
)
AWKWARD_VALUES: list[Any] = [
    *(None, True, 0, -1, 2**63, 2**64 - 1, -(2**63), float("nan"), float("inf"), -0.0, 1e308, 0.5),
    *("", "\0", "\x1b[2J", "\u202e", "\U0010ffff", "9" * 5000, "../../x", "x" * 70_000, b"", b"\0" * 64, b"\xff" * 32),
    *([], {}, [[]], {"": {}}, {1: 2}, {b"k": 1}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(2**33), [None] * 300),
]


@dataclass(frozen=True)
class Decoder:
    """Something that takes bytes from outside.

    `refuses`: all that it may raise. `covers`: the functions, as module:name, in which bytes are parsed on its way.
    `wrap`: what to do with hostile bytes so that they get past the outer checks, such as to sign them.
    """

    name: str
    decode: Callable[[bytes], object]
    examples: tuple[bytes, ...] = ()
    covers: tuple[str, ...] = ()
    refuses: tuple[type[BaseException], ...] = (FednodeError,)
    wrap: Callable[[bytes], bytes] = field(default=bytes)


def hostile(examples: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Bytes: of any kind, good msgpack with nothing good in it, and `examples` with a few places changed."""
    kinds = [st.binary(max_size=200), _PACKED]
    if examples:
        kinds += [_mutated(examples), _altered(examples)] * 2
    return st.one_of(kinds)


_VALUES = st.recursive(
    st.one_of(st.sampled_from(AWKWARD_VALUES), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    return packed


_PACKED = _VALUES.map(_packed)


@st.composite
def _mutated(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """Bits flipped, parts cut out, put in, doubled, or taken from another example."""
    data = bytearray(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        end = min(len(data), at + draw(st.integers(1, 40)))
        match draw(st.sampled_from(["flip", "cut", "end", "put", "double", "splice"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:end]
            case "end":
                del data[at:]
            case "put":
                data[at:at] = draw(AWKWARD_BYTES | st.binary(max_size=16))
            case "double":
                data[at:at] = data[at:end]
            case "splice":
                other = draw(st.sampled_from(examples))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@st.composite
def _altered(draw: st.DrawFn, examples: tuple[bytes, ...]) -> bytes:
    """Where an example is msgpack: one value in it is another, one key lacks, or there is one too many."""
    raw = draw(st.sampled_from(examples))
    try:
        tree = msgpack.unpackb(raw, strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException):
        return draw(_mutated((raw,)))
    places = list(_places(tree))
    if not places:
        return _packed(draw(_VALUES))
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["change", "change", "change", "lack", "add"])):
        case "change":
            holder[key] = draw(st.sampled_from(AWKWARD_VALUES) | _VALUES)
        case "lack":
            del holder[key]
        case "add" if isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = draw(_VALUES)
        case "add":
            holder.extend([draw(_VALUES)] * draw(st.sampled_from([1, 5000])))
    return _packed(tree)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or map in `tree` with each of its keys."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def check(decoder: Decoder, data: bytes) -> None:
    """Decode `data`: nothing may be raised but what the decoder declares, and it may cost no more than it should."""
    seconds, peak = _cost(decoder, data)
    if seconds > CPU_S_MAX:  # what the process does beside, such as looking for garbage, may have fallen into it
        seconds, _ = _cost(decoder, data)
    assert seconds <= CPU_S_MAX, f"{decoder.name} took {seconds:.1f} s for {len(data)} bytes"
    most = MEMORY_BYTES_MAX + MEMORY_PER_BYTE_MAX * len(data)
    assert peak <= most, f"{decoder.name} took {peak:,} bytes of memory for {len(data)}"


def _cost(decoder: Decoder, data: bytes) -> tuple[float, int]:
    """CPU seconds of one decoding, and the most bytes that it took."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        decoder.decode(decoder.wrap(data))
    except decoder.refuses:
        pass
    finally:
        seconds = time.process_time() - begun
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return seconds, peak
