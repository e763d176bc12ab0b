"""Blobs on their way, a line each: which way, what, how far it is, how fast it goes, how long it will take. Pure."""

from collections.abc import Sequence

from tui.drawing.lines import cut, plain_lines, spaced
from tui.drawing.picture import Picture, Span
from tui.drawing.words import bar, bytes_text, seconds_text
from tui.facts.transfers import UnderWay

BAR_CELLS = 16
WIDE_CELLS = 100  # from which on a line has room for a longer bar, and for how many bytes there are
LINES_MAX = 4  # of those that take longest; more would cost the log below


def transfer_lines(under_way: Sequence[UnderWay], width: int, height: int) -> Picture:
    """Those that take longest first; those that find no line are counted."""
    slowest = sorted(under_way, key=lambda each: -(each.left_s if each.left_s is not None else float("inf")))
    shown = slowest if len(slowest) <= height else slowest[: max(height - 1, 1)]
    more = len(slowest) - len(shown)
    lines = [spaced(_what(each), _how_far(each, width), width) for each in shown]
    if more and height > 1:
        lines.append(cut([Span(f"  and {more} more", "dim")], width))
    elif more:
        lines = [spaced([*_what(shown[0]), Span(f" +{more}", "dim")], _how_far(shown[0], width), width)]
    return plain_lines(lines, width, height)


def _what(each: UnderWay) -> list[Span]:
    way = Span("▼ " if each.incoming else "▲ ", "good" if each.incoming else "accent")
    peer = f" {'from' if each.incoming else 'to'} {each.peer}" if each.peer else ""
    run = f" · {each.run_name}" if each.run_name else ""
    return [way, Span(f"{each.kind or each.blob[:12]}{peer}"), Span(run, "dim")]


def _how_far(each: UnderWay, width: int) -> list[Span]:
    """The weightiest first, for the right edge gives way where the line is short."""
    cells = BAR_CELLS if width >= WIDE_CELLS else BAR_CELLS // 2
    left = "" if each.left_s is None else f"{'' if each.incoming else '≤ '}{seconds_text(each.left_s)} left"
    done = [Span(bar(each.done, cells), "accent"), Span(f"{each.done:>5.0%}", "strong")]
    if not each.incoming:  # its taker may have the rest of others: there is no share to show
        done = [Span(f"{bytes_text(each.done_bytes)} given".rjust(cells + 5), "strong")]
    spans = [*done, Span(f"{left:>17}")]
    spans.append(Span(f"{bytes_text(round(each.rate)):>10}/s"))
    if width >= WIDE_CELLS:
        spans.append(
            Span(
                f"{bytes_text(each.done_bytes):>10} {'of' if each.incoming else '≤ '} {bytes_text(each.total_bytes):>8}"
            )
        )
    return spans
