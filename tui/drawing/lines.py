"""Lines of text as pictures, cut off where room lacks. Pure."""

from collections.abc import Sequence

from rich.cells import cell_len

from tui.drawing.picture import Line, Picture, Span
from tui.drawing.words import shortened


def plain_lines(lines: Sequence[Sequence[Span]], width: int, height: int) -> Picture:
    """Lines of text, cut off at the right edge."""
    return Picture(width, height, tuple(cut(line, width) for line in lines[:height]) + ((),) * (height - len(lines)))


def spaced(left: Sequence[Span], right: Sequence[Span], width: int) -> Line:
    """Text at both edges; the right one gives way where there is no room for both."""
    used = sum(cell_len(span.text) for span in left)
    rest = cut(right, max(width - used - 1, 0))
    gap = width - used - sum(cell_len(span.text) for span in rest)
    return cut([*left, Span(" " * max(gap, 0)), *rest], width)


def cut(spans: Sequence[Span], width: int) -> Line:
    """As much of the spans as `width` cells hold; an ellipsis where something is missing."""
    kept: list[Span] = []
    for span in spans:
        if width <= 0:
            break
        kept.append(Span(shortened(span.text, width), span.style))
        width = width - cell_len(span.text) if kept[-1].text == span.text else 0
    return tuple(kept)
