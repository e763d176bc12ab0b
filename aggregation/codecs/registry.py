"""The codecs by name, and the layout of the blobs that are made with them.

A difference blob is the coded averaged tensors, followed by the counters as they are stored in the model.
"""

from aggregation.codecs.codec import Codec
from aggregation.codecs.floats import BFloat16, Float16, Float32
from aggregation.codecs.int8 import Int8
from aggregation.codecs.top import Top1, Top10
from aggregation.tensors.schema import Schema
from protocol.errors import FednodeError

CODECS: dict[str, Codec] = {codec.name: codec for codec in (Float32(), BFloat16(), Float16(), Int8(), Top10(), Top1())}


def codec_named(name: str) -> Codec:
    """Raises FednodeError, naming the known ones, when there is no such codec."""
    codec = CODECS.get(name)
    if codec is None:
        raise FednodeError(f"There is no codec {name!r}", remedy=f"choose one of {', '.join(CODECS)}")
    return codec


def difference_bytes(schema: Schema, codec: Codec) -> int:
    """The exact length of an update's or a checkpoint's difference blob."""
    return counters_position(schema, codec) + schema.counters_bytes


def counters_position(schema: Schema, codec: Codec) -> int:
    """Where in a difference blob the counters begin."""
    return codec.coded_bytes(schema.averaged_elements)
