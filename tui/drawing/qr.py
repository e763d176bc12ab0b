"""A text as a QR code made of half blocks, for a telephone's or another computer's camera.

Light squares are drawn, dark ones left out: right on a dark terminal without any colour. In the style "qr", white on
black whatever the theme, it is right on a light one, too.
"""

from functools import lru_cache

import segno

from tui.drawing.picture import Canvas, Picture
from tui.drawing.words import shortened

QUIET_MODULES = 4  # the empty frame that ISO/IEC 18004 asks for
QUIET_MODULES_LEAST = 2  # what cameras need to find the code
_BLOCKS = {(True, True): " ", (False, True): "▀", (True, False): "▄", (False, False): "█"}  # by (upper, lower) is dark
_REMEMBERED_CODES = 4  # a dialog draws its one code anew at every size


def qr_picture(text: str, width: int, height: int, frame: tuple[int, int] = (0, 0)) -> Picture:
    """`text` as a QR code of at most `width` by `height` cells, in a picture of just the code's size.

    Where there is no room for it, or `text` is longer than any code can be, the picture says so in words, and how large
    the terminal must be, of which `frame` cells go to what stands around the picture. Capitals, digits and `-` alone
    make a smaller code: give a token in capitals.
    """
    modules = _modules(text)
    if modules is None:
        return _words(width, height, "This text is too long for a QR code.", "Copy it instead.")
    for quiet in range(QUIET_MODULES, QUIET_MODULES_LEAST - 1, -1):
        side = len(modules) + 2 * quiet
        if side <= width and (side + 1) // 2 <= height:
            return _drawn(modules, quiet)
    columns, lines = qr_size(text)
    return _words(
        width,
        height,
        f"A QR code of this needs a terminal of {columns + frame[0]} × {lines + frame[1]} cells;",
        f"this one has {max(width, 0) + frame[0]} × {max(height, 0) + frame[1]}.",
        "Make the window larger, or copy the text.",
    )


def qr_size(text: str) -> tuple[int, int]:
    """The least width and height, in cells, of `text` as a QR code; (0, 0) where it is too long for one."""
    modules = _modules(text)
    side = len(modules) + 2 * QUIET_MODULES_LEAST if modules else 0
    return side, (side + 1) // 2


@lru_cache(maxsize=_REMEMBERED_CODES)
def _modules(text: str) -> tuple[bytes, ...] | None:
    """The code's rows, 1 where a module is dark; None where the text is too long."""
    try:
        code = segno.make_qr(text, error="l")
    except segno.DataOverflowError:
        return None
    return tuple(bytes(row) for row in code.matrix)


def _drawn(modules: tuple[bytes, ...], quiet: int) -> Picture:
    side = len(modules) + 2 * quiet

    def is_dark(x: int, y: int) -> bool:
        # An odd number of rows ends in half a line: a dark one, so that the code's frame is even all round.
        inside = 0 <= x - quiet < len(modules) and 0 <= y - quiet < len(modules)
        return bool(modules[y - quiet][x - quiet]) if inside else y >= side

    canvas = Canvas(side, (side + 1) // 2)
    for line in range(canvas.height):
        upper, lower = 2 * line, 2 * line + 1
        blocks = (_BLOCKS[is_dark(x, upper), is_dark(x, lower)] for x in range(side))
        canvas.write(0, line, "".join(blocks), "qr")
    return canvas.picture()


def _words(width: int, height: int, *lines: str) -> Picture:
    canvas = Canvas(width, min(height, len(lines)))
    for y, line in enumerate(lines):
        canvas.write(0, y, shortened(line, width), "warn")
    return canvas.picture()
