"""What goes over the pipe between a node and its worker: msgpack maps, each after its length. Bounded both ways.

To the worker: {"do": "open" | "initial_model" | "train" | "evaluate" | "predict", "call": number, …} and
{"do": "abort", "call"}.
To the node: {"is": "answer" | "failure", "call", …}, {"is": "output", …}, {"is": "beat", "ticks", "cpu_s"},
{"is": "coded", "call", "bytes"} while a large update is coded.
Bytes in them that are large lie in files of the session's directory: `to_field` and `from_field`.
"""

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.limits import FRAME_BYTES_MAX

INLINE_BYTES_MAX = 1024 * 1024  # larger arrays go through files: copying them through a pipe would hold up the node

PREDICTIONS_FILE = "predictions.npz"  # in the session's directory
PREDICTIONS_BYTES_MAX = 16 * 1024**3  # more fills disks by mistake: a mask for every pixel of a whole archive
PREDICTIONS_FILE_BYTES_MAX = PREDICTIONS_BYTES_MAX + 4 * 1024**2  # with the name and head of each array

_LENGTH = struct.Struct("<I")


def encode_frame(frame: Mapping[str, Any]) -> bytes:
    """Raises LocalProtocolError for a frame over FRAME_BYTES_MAX."""
    body: bytes = msgpack.packb(frame, use_bin_type=True)
    if len(body) > FRAME_BYTES_MAX:
        raise LocalProtocolError(
            f"A frame of {len(body)} bytes is over the limit of {FRAME_BYTES_MAX}", remedy="put it into a file"
        )
    return _LENGTH.pack(len(body)) + body


def to_field(content: bytes, file: Path) -> bytes | bool:
    """What stands for `content` in a frame: itself, or true once it is written to `file`. Blocks on the disk then."""
    if len(content) <= INLINE_BYTES_MAX:
        return content
    fresh = file.with_suffix(".fresh")
    fresh.unlink(missing_ok=True)
    with fresh.open("xb") as target:  # never through a link that somebody's code has put there
        target.write(content)
    os.replace(fresh, file)  # never changed in place: the reader may still have the one before mapped
    return True


def from_field(field: Any, file: Path) -> bytes | Path:
    """The content that `field` stands for, or the file that it is in. Raises TypeError for any other field.

    What a worker says to be in a file, the node opens by node.training.staged_files alone."""
    if field is True:
        return file
    if not isinstance(field, bytes):
        raise TypeError(f"{type(field).__name__} is no content")
    return field


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The frames that `data` completes. Raises RemoteProtocolError for what is no frame; all is lost then."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > FRAME_BYTES_MAX:
                raise RemoteProtocolError(f"A frame of {length} bytes is over the limit of {FRAME_BYTES_MAX}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            frames.append(_decode(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return frames


def _decode(body: bytes) -> dict[str, Any]:
    try:
        frame = msgpack.unpackb(body, raw=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise RemoteProtocolError(f"A frame is not msgpack ({type(error).__name__})") from None
    if not isinstance(frame, dict):
        raise RemoteProtocolError("A frame is no map")
    return frame
