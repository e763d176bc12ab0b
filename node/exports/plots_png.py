"""A drawing as PNG: smooth strokes, letters of dots, and the file's format (RFC 2083), by numpy and zlib.

Always in the light colours, for a picture cannot know where it is looked at.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from node.exports.plots import FAINT, Box, Drawing, Label, Point, Stroke
from node.exports.plots_font import COLUMNS, ROWS, columns
from node.exports.plots_svg import LIGHT

SCALE = 2  # pixels to a drawing's unit: sharp on today's screens and on paper
_LETTER = 2  # pixels to a letter's dot at that scale
Pixels = np.ndarray[Any, np.dtype[np.float32]]  # height × width × 3, 0 … 255


def png(drawing: Drawing) -> bytes:
    """The picture's file, SCALE pixels to a unit."""
    height, width = math.ceil(drawing.height * SCALE), math.ceil(drawing.width * SCALE)
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = _colour("page")
    for shape in drawing.shapes:
        if isinstance(shape, Stroke):
            _stroke(pixels, shape)
        elif isinstance(shape, Box):
            top, left = round(shape.y * SCALE), round(shape.x * SCALE)
            bottom, right = round((shape.y + shape.height) * SCALE), round((shape.x + shape.width) * SCALE)
            pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = _colour(shape.style)
        else:
            _label(pixels, shape)
    return _file(np.rint(pixels).astype(np.uint8))


def _colour(style: str) -> Pixels:
    return np.frombuffer(bytes.fromhex(LIGHT[style][1:]), np.uint8).astype(np.float32)


def _stroke(pixels: Pixels, stroke: Stroke) -> None:
    """Each pixel takes as much of the colour as the line covers of it, by its distance from the line's middle."""
    height, width = pixels.shape[:2]
    cover = np.zeros((height, width), np.float32)
    half = stroke.width * SCALE / 2
    for (x0, y0), (x1, y1) in _dashed([(x * SCALE, y * SCALE) for x, y in stroke.points], stroke.dashes):
        reach = half + 1
        left, right = max(int(min(x0, x1) - reach), 0), min(int(max(x0, x1) + reach) + 2, width)
        top, bottom = max(int(min(y0, y1) - reach), 0), min(int(max(y0, y1) + reach) + 2, height)
        if left >= right or top >= bottom:
            continue
        px = np.arange(left, right, dtype=np.float32)[None, :] + 0.5
        py = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((px - x0) * dx + (py - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        distance = np.hypot(px - x0 - along * dx, py - y0 - along * dy)
        part = cover[top:bottom, left:right]
        np.maximum(part, np.clip(half + 0.5 - distance, 0, 1), out=part)
    touched = np.nonzero(cover)
    weight = cover[touched][:, None] * (FAINT if stroke.faint else 1)
    pixels[touched] += weight * (_colour(stroke.style) - pixels[touched])


def _dashed(points: Sequence[Point], dashes: Sequence[float]) -> Iterable[tuple[Point, Point]]:
    """The straight pieces of a line; of a dashed one those that are drawn."""
    lengths = [length * SCALE for length in dashes] or [math.inf]
    index, left = 0, lengths[0]
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > 0:
            step = min(left, length - done)
            if index % 2 == 0:
                a, b = done / length, (done + step) / length
                yield (x0 + (x1 - x0) * a, y0 + (y1 - y0) * a), (x0 + (x1 - x0) * b, y0 + (y1 - y0) * b)
            done, left = done + step, left - step
            if left <= 0:
                index = (index + 1) % len(lengths)
                left = lengths[index]


def _label(pixels: Pixels, label: Label) -> None:
    advance = (COLUMNS + 1) * _LETTER
    shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor]
    left = round(label.x * SCALE - shift * advance * len(label.text))
    top = round(label.y * SCALE) - ROWS * _LETTER
    colour = _colour(label.style)
    for place, char in enumerate(label.text):
        for column, bits in enumerate(columns(char)):
            x = left + place * advance + column * _LETTER
            for row in range(ROWS):
                y = top + row * _LETTER
                if bits >> row & 1 and x >= 0 and y >= 0:
                    pixels[y : y + _LETTER, x : x + _LETTER] = colour


def _file(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + width * 3), np.uint8)  # each line begins with its filter: 0, none
    lines[:, 1:] = pixels.reshape(height, width * 3)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # eight bits each of red, green and blue
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
