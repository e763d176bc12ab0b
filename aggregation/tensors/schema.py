"""What a model is made of: the ordered tensors that all nodes of a run agree on, and where each lies in the raw bytes.

Decides the one byte form of a model ("raw": little-endian tensor bytes, one after another) and of its description.
Since sizes and offsets follow from the agreed schema alone, nothing that a peer sends later can choose a shape.

Tensors come in the order of their kinds, so that everything of one kind lies together:

    averaged   floating point; updates carry its difference from the base checkpoint
    counter    integers; updates carry the value, and the greatest counts (a BatchNorm's `num_batches_tracked`)
    frozen     part of every model, changed by no update
    local      each participant's own (FedBN, arXiv:2102.07623): never sent, so the raw bytes do not hold it
"""

import math
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import Hash
from protocol.limits import BLOB_BYTES_MAX

Buffer = bytes | bytearray | memoryview

TENSORS_MAX = 65_536  # a mixture of experts has some ten thousand; parsing so many takes a third of a second
NAME_BYTES_MAX = 256  # the longest names of published models have about 120
DIMENSIONS_MAX = 8  # a three-dimensional convolution's weight has five
MODEL_BYTES_MAX = BLOB_BYTES_MAX  # a model travels as one blob
SCHEMA_BYTES_MAX = 8 * 1024 * 1024  # TENSORS_MAX names of a hundred bytes each

KINDS = ("averaged", "counter", "frozen", "local")  # in their order; the wire form holds the index

_MAGIC = b"fednode schema 1"
_COUNT = struct.Struct("<I")
_HEAD = struct.Struct("<BBBH")  # kind, dtype, dimensions, bytes of the name
_DIMENSION = struct.Struct("<Q")


class ElementType(NamedTuple):
    """A dtype's number in the wire form, the numpy dtype that views it, and the kinds it can have."""

    code: int
    numpy: str
    kinds: tuple[str, ...]


_FLOAT = ("averaged", "frozen", "local")
_INTEGER = ("counter", "frozen", "local")
_OTHER = ("frozen", "local")
ELEMENT_TYPES = {
    "float32": ElementType(1, "<f4", _FLOAT),
    "float64": ElementType(2, "<f8", _FLOAT),
    "float16": ElementType(3, "<f2", _FLOAT),
    "bfloat16": ElementType(4, "<u2", _FLOAT),  # numpy has no such type: its views hold the 16 bits as integers
    "int64": ElementType(5, "<i8", _INTEGER),
    "int32": ElementType(6, "<i4", _INTEGER),
    "int16": ElementType(7, "<i2", _INTEGER),
    "int8": ElementType(8, "|i1", _INTEGER),
    "uint64": ElementType(9, "<u8", _INTEGER),
    "uint32": ElementType(10, "<u4", _INTEGER),
    "uint16": ElementType(11, "<u2", _INTEGER),
    "uint8": ElementType(12, "|u1", _INTEGER),
    "bool": ElementType(13, "|b1", _OTHER),
}
_DTYPE_OF_CODE = {element.code: name for name, element in ELEMENT_TYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: its name, dtype (a key of ELEMENT_TYPES), shape and kind (one of KINDS)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(ELEMENT_TYPES[self.dtype].numpy)

    @property
    def stored_bytes(self) -> int:
        """How many bytes of a raw model are this tensor's."""
        return 0 if self.kind == "local" else self.elements * self.numpy_dtype.itemsize


@dataclass(frozen=True)
class Schema:
    """The tensors of a model in their agreed order: averaged first, then counters, frozen and local ones.

    `Schema.of` puts tensors into that order; the constructor wants them so. Raises FednodeError for what no model is.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        fault = _fault(self.tensors)
        if fault:
            raise FednodeError(f"The model cannot be described: {fault}", remedy="change the model that the task makes")

    @classmethod
    def of(cls, tensors: Iterable[TensorSpec]) -> Self:
        """The schema of these tensors, sorted by kind and otherwise left in their order."""
        return cls(tuple(sorted(tensors, key=_kind_rank)))

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, npt.NDArray[Any]], *, frozen: Collection[str] = (), local: Collection[str] = ()
    ) -> Self:
        """Floats are averaged, integers are counters, booleans frozen; `frozen` and `local` hold patterns of names."""
        specs = []
        for name, array in arrays.items():
            dtype = array.dtype.name
            specs.append(TensorSpec(name, dtype, array.shape, kind_of(name, dtype, frozen=frozen, local=local)))
        return cls.of(specs)

    @classmethod
    def from_bytes(cls, data: Buffer) -> Self:
        """The schema in `data`, which may come from anybody. Raises RemoteProtocolError unless it is canonical."""
        tensors = tuple(_parse(data))
        fault = _fault(tensors)
        if fault:
            raise RemoteProtocolError(f"A tensor schema is not acceptable: {fault}")
        return cls(tensors)

    def to_bytes(self) -> bytes:
        """The one byte form of this schema: equal schemas, and only they, have equal bytes."""
        parts = [_MAGIC, _COUNT.pack(len(self.tensors))]
        for spec in self.tensors:
            name = spec.name.encode()
            code = ELEMENT_TYPES[spec.dtype].code
            parts.append(_HEAD.pack(_kind_rank(spec), code, len(spec.shape), len(name)) + name)
            parts.extend(_DIMENSION.pack(size) for size in spec.shape)
        return b"".join(parts)

    @cached_property
    def schema_id(self) -> Hash:
        return Hash(blake3(self.to_bytes()).hexdigest())

    @cached_property
    def averaged(self) -> tuple[TensorSpec, ...]:
        return self._of_kind("averaged")

    @cached_property
    def counters(self) -> tuple[TensorSpec, ...]:
        return self._of_kind("counter")

    @cached_property
    def averaged_elements(self) -> int:
        """The length of the flat vector of all averaged tensors, which updates and rules work on."""
        return sum(spec.elements for spec in self.averaged)

    @cached_property
    def counters_offset(self) -> int:
        """Where the counters begin in a raw model: behind the averaged tensors, which begin it."""
        return sum(spec.stored_bytes for spec in self.averaged)

    @cached_property
    def counters_bytes(self) -> int:
        return sum(spec.stored_bytes for spec in self.counters)

    @cached_property
    def model_bytes(self) -> int:
        """The exact length of a raw model."""
        return sum(spec.stored_bytes for spec in self.tensors)

    def check_length(self, raw_bytes: int) -> None:
        """Raises FednodeError when a raw model of this schema cannot have `raw_bytes` bytes."""
        if raw_bytes != self.model_bytes:
            raise FednodeError(
                f"The model has {raw_bytes} bytes and its schema says {self.model_bytes}",
                remedy="use the checkpoint and the schema of one and the same run",
            )

    def views(self, raw: Buffer) -> dict[str, npt.NDArray[Any]]:
        """The tensors in a raw model by name, without copying; writable when `raw` is. Local ones are not in it."""
        self.check_length(len(raw))
        arrays: dict[str, npt.NDArray[Any]] = {}
        offset = 0
        for spec in self.tensors:
            if spec.kind != "local":
                flat = np.frombuffer(raw, spec.numpy_dtype, spec.elements, offset) if spec.elements else _nothing(spec)
                arrays[spec.name] = flat.reshape(spec.shape)
                offset += spec.stored_bytes
        return arrays

    def raw_of(self, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
        """A raw model of these arrays, the inverse of `views`. Raises as `parts_of`."""
        return b"".join(self.parts_of(arrays))

    def parts_of(self, arrays: Mapping[str, npt.NDArray[Any]]) -> list[memoryview]:
        """What joined is a raw model of these arrays: views of them where they lie in memory as they are stored, else
        copies. Arrays of local tensors are left out.

        Raises FednodeError that names the tensor when one is missing, unknown or of another shape or dtype."""
        unknown = arrays.keys() - {spec.name for spec in self.tensors}
        if unknown:
            raise _mismatch(f"tensor {min(unknown)!r} is not in the schema")
        return [_stored_of(spec, arrays.get(spec.name)) for spec in self.tensors if spec.kind != "local"]

    def _of_kind(self, kind: str) -> tuple[TensorSpec, ...]:
        return tuple(spec for spec in self.tensors if spec.kind == kind)


def kind_of(name: str, dtype: str, *, frozen: Collection[str] = (), local: Collection[str] = ()) -> str:
    """The kind of a tensor by its dtype, unless its name fits a pattern (as of file names) in `local` or `frozen`."""
    if any(fnmatchcase(name, pattern) for pattern in local):
        return "local"
    if any(fnmatchcase(name, pattern) for pattern in frozen):
        return "frozen"
    element = ELEMENT_TYPES.get(dtype)
    return element.kinds[0] if element else "averaged"


def _kind_rank(spec: TensorSpec) -> int:
    return KINDS.index(spec.kind)


def _parse(data: Buffer) -> Iterable[TensorSpec]:
    """Tensors as the bytes spell them. What they add up to is for `_fault` to judge."""
    if len(data) > SCHEMA_BYTES_MAX:
        raise RemoteProtocolError(f"A tensor schema of {len(data)} bytes is over the limit of {SCHEMA_BYTES_MAX}")
    raw = bytes(data)
    if not raw.startswith(_MAGIC):
        raise RemoteProtocolError("A tensor schema does not begin as one, or is of a later version")
    try:
        (count,) = _COUNT.unpack_from(raw, len(_MAGIC))
        if count > TENSORS_MAX:
            raise RemoteProtocolError(f"A tensor schema of {count} tensors is over the limit of {TENSORS_MAX}")
        position = len(_MAGIC) + _COUNT.size
        for _ in range(count):
            spec, position = _parse_tensor(raw, position)
            yield spec
    except (struct.error, UnicodeDecodeError, KeyError, IndexError):
        raise RemoteProtocolError("A tensor schema is cut short or holds what no schema holds") from None
    if position != len(raw):
        raise RemoteProtocolError(f"A tensor schema has {len(raw) - position} bytes too many")


def _parse_tensor(raw: bytes, position: int) -> tuple[TensorSpec, int]:
    kind, code, dimensions, name_bytes = _HEAD.unpack_from(raw, position)
    position += _HEAD.size
    end = position + name_bytes + dimensions * _DIMENSION.size
    if end > len(raw):
        raise IndexError
    shape = struct.unpack_from(f"<{dimensions}Q", raw, position + name_bytes)
    name = raw[position : position + name_bytes].decode()
    return TensorSpec(name, _DTYPE_OF_CODE[code], shape, KINDS[kind]), end


def _fault(tensors: tuple[TensorSpec, ...]) -> str:
    """Why these tensors are no schema, as a clause, or nothing."""
    if len(tensors) > TENSORS_MAX:
        return f"{len(tensors)} tensors are over the limit of {TENSORS_MAX}"
    for spec in tensors:
        fault = _tensor_fault(spec)
        if fault:
            return f"tensor {spec.name[:80]!r} {fault}"
    if len({spec.name for spec in tensors}) != len(tensors):
        return "two tensors have one name"
    ranks = [_kind_rank(spec) for spec in tensors]
    if ranks != sorted(ranks):
        return "its tensors are not in the order of their kinds"
    if sum(spec.stored_bytes for spec in tensors) > MODEL_BYTES_MAX:
        return f"it has more than {MODEL_BYTES_MAX} bytes"
    return ""


def _tensor_fault(spec: TensorSpec) -> str:
    element = ELEMENT_TYPES.get(spec.dtype)
    if element is None:
        return f"has dtype {spec.dtype}; known are {', '.join(ELEMENT_TYPES)}"
    if spec.kind not in element.kinds:
        return f"of dtype {spec.dtype} cannot be {spec.kind!r}; it can be {', '.join(element.kinds)}"
    # Names are shown on screens: no control characters, no line ends.
    if not spec.name or len(spec.name.encode(errors="replace")) > NAME_BYTES_MAX or not spec.name.isprintable():
        return f"needs a printable name of 1 to {NAME_BYTES_MAX} bytes"
    if len(spec.shape) > DIMENSIONS_MAX:
        return f"has {len(spec.shape)} dimensions; the limit is {DIMENSIONS_MAX}"
    # numpy multiplies the sizes even where one of them is 0, so the others are bounded too.
    if min(spec.shape, default=0) < 0 or math.prod(size or 1 for size in spec.shape) > MODEL_BYTES_MAX:
        return "has a size that no model has"
    return ""


def _nothing(spec: TensorSpec) -> npt.NDArray[Any]:
    return np.empty(0, spec.numpy_dtype)


def _stored_of(spec: TensorSpec, array: npt.NDArray[Any] | None) -> memoryview:
    if array is None:
        raise _mismatch(f"tensor {spec.name!r} is missing")
    if array.shape != spec.shape or array.dtype.newbyteorder("<") != spec.numpy_dtype:
        raise _mismatch(
            f"tensor {spec.name!r} is {array.dtype.name} {list(array.shape)}; "
            f"the schema says {spec.dtype} {list(spec.shape)}"
        )
    return np.ascontiguousarray(array, spec.numpy_dtype).reshape(-1).view(np.uint8).data


def _mismatch(what: str) -> FednodeError:
    return FednodeError(f"These arrays do not fit the model: {what}", remedy="return every tensor that model() made")
