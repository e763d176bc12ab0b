"""TensorBoard's event files, written without TensorBoard.

A file is a TFRecord: length (u64), its masked CRC-32C (u32), the bytes, their masked CRC-32C, all little-endian. Each
record is an `Event` of tensorflow/core/util/event.proto: wall_time (1, double), step (2, varint), file_version (3) or
summary (5) of one value (1) with its tag (1) and simple_value (2, float).
"""

import math
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import FednodeError
from tracker.exports.points import Point

_CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, reflected
_CRC_MASK = 0xA282EAD8
_FLOAT_MAX = 3.4028234663852886e38  # TensorBoard keeps 32 bits of a scalar


class EventFiles:
    """Event files under `folder`, one for each name given to `add`; they appear whole at `finish`, or not at all.

    A file of an earlier export of the same run has the same name and is replaced, so nothing is there twice.

    Args:
        started_at: seconds since the epoch; part of the files' names, so the same for every export of a run.
    """

    def __init__(self, folder: Path, started_at: float) -> None:
        self._folder = folder
        self._started_at = started_at
        self._partial: dict[str, Path] = {}
        self.scalars = 0

    def add(self, name: str, points: Iterable[Point]) -> None:
        """Append to the file in the folder `name`. Raises FednodeError when the disk says no."""
        records = [event(point) for point in points]
        self.scalars += len(records)
        try:
            with self._file(name).open("ab") as file:
                file.write(b"".join(records))
        except OSError as error:
            raise self._not_written(error) from None

    def finish(self) -> list[Path]:
        """Put the files in their places; gives these."""
        try:
            for path in self._partial.values():
                path.replace(_final(path))
        except OSError as error:
            raise self._not_written(error) from None
        return [_final(path) for path in self._partial.values()]

    def abandon(self) -> None:
        """Remove what is not finished."""
        for path in self._partial.values():
            path.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        if name not in self._partial:
            folder = self._folder / name
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f".events.out.tfevents.{int(self._started_at)}.fednode.{os.getpid()}"
            path.write_bytes(file_version(self._started_at))
            self._partial[name] = path
        return self._partial[name]

    def _not_written(self, error: OSError) -> FednodeError:
        return FednodeError(
            f"{error.filename or self._folder} cannot be written ({error.strerror})",
            remedy="name another folder, or make room on the disk",
        )


def _final(partial: Path) -> Path:
    return partial.with_name(partial.name.removeprefix(".").rpartition(".")[0])


def file_version(time: float) -> bytes:
    """The record that every event file begins with."""
    return _record(b"\x09" + struct.pack("<d", time) + _field(3, b"brain.Event:2"))


def event(point: Point) -> bytes:
    """The record of one scalar, with its own wall time; of the value 32 bits remain."""
    value = _field(1, point.name.encode()) + b"\x15" + struct.pack("<f", _as_float32(point.value))
    head = b"\x09" + struct.pack("<d", point.time) + b"\x10" + _varint(point.step)
    return _record(head + _field(5, _field(1, value)))


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4), turned and shifted as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _CRC_MASK) & 0xFFFFFFFF


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))))


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    taken = bytearray()
    while number > 0x7F:
        taken.append(number & 0x7F | 0x80)
        number >>= 7
    taken.append(number)
    return bytes(taken)


def _as_float32(value: float) -> float:
    return value if abs(value) <= _FLOAT_MAX or math.isnan(value) else math.copysign(math.inf, value)


def _crc_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (_CASTAGNOLI if crc & 1 else 0)
    return crc


_TABLE = [_crc_of_byte(byte) for byte in range(256)]
