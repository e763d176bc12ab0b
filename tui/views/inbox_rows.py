"""What the inbox says: a row for each thing that waits, and the page of the one that is looked at. Pure."""

import textwrap
from collections.abc import Iterator, Sequence

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.picture import Line, Span
from tui.drawing.words import date_text
from tui.facts.inbox import Difference, Item, Proposal

ITEM_COLUMNS = (
    Column("", 1, 1),
    Column("what waits", 16, 90),
    Column("since", 11, 11, 1),
)
# A sign and a style for each kind; a kind that we do not know is shown with a dot.
SIGNS = {
    "proposal": ("?", "warn"),
    "proposals": ("?", "warn"),
    "joiner": ("+", "good"),
    "gone": ("−", "warn"),
    "revoked": ("⊘", "warn"),
    "refused-updates": ("⊘", "warn"),
    "failed-audit": ("✗", "bad"),
    "failed-run": ("!", "bad"),
    "paused-run": ("‖", "warn"),
    "low-disk": ("▼", "bad"),
    "trouble": ("!", "bad"),
}
KEY_COLUMNS = 28  # of the configuration's keys; most are shorter
INDENT = 2
NOTHING = "Nothing waits for you. Runs that others propose, who joins and who is out, and what went wrong will be here."
NOTHING_IN_RECORD = (
    "Nothing in this record waits to be seen. A record tells of refused updates, failed runs and failed audits; who "
    "joins and who is out, and how full the disk is, only a running node tells."
)


def item_rows(items: Sequence[Item]) -> ListRows:
    """One row an item, in the order told."""
    return ListRows(_item_row(item) for item in items)


def _item_row(item: Item) -> Row:
    sign, style = SIGNS.get(item.kind, ("·", ""))
    cells = (
        Cell(sign, style),
        Cell(item.title or item.kind, "strong" if item.needs == "answer" else ""),
        Cell(date_text(item.time)[5:] if item.time else "–", "dim"),
    )
    return Row(item.item_id, cells)


def empty_page(width: int, *, is_record: bool) -> tuple[Line, ...]:
    return tuple(_folded(NOTHING_IN_RECORD if is_record else NOTHING, width, "dim"))


def item_page(item: Item, width: int, proposal: Proposal | None, trouble: str) -> tuple[Line, ...]:
    """The whole item. `proposal`: what its run asks for, once it is known; `trouble`: why it is not."""
    sign, style = SIGNS.get(item.kind, ("·", ""))
    lines: list[Line] = list(_folded(f"{sign} {item.title}", width, style or "strong"))
    lines += [*_folded(item.text, width), (), *_folded(_keys(item), width, "key")]
    if item.asks and proposal is not None:
        lines += [(), *_proposal_lines(proposal, width)]
    elif item.asks:
        lines += [(), *_folded(trouble or "asking what it wants …", width, "bad" if trouble else "dim")]
    return tuple(lines)


def _keys(item: Item) -> str:
    known = {"accept": "a accept", "decline": "x decline", "seen": "d done: I have seen it"}
    goes = next((name for name in ("run", "node", "group") if name in item.actions), "")
    words = [known[action] for action in item.actions if action in known]
    return "   ".join([*words, *([f"Enter go to the {goes}"] if goes else [])])


def _proposal_lines(proposal: Proposal, width: int) -> Iterator[Line]:
    who = proposal.proposer_name or "unknown"
    member = proposal.proposer_member
    yield from _part("Who proposes it", f"{who}{f', a node of {member}' if member and member != who else ''}", width)
    yield from _part("Code", proposal.code, width, ok=proposal.code_here)
    yield from _part("Data", proposal.data, width, ok=proposal.data_here)
    yield from _difference_lines(proposal, width)
    marks = {each.key: _sign_and_words(each)[0] for each in proposal.differences}
    yield (Span("Configuration", "heading"),)
    for key, value in proposal.configuration:
        yield from _keyed(marks.get(key, Span(" " * INDENT)), key, value, width, "strong" if key in marks else "")


def _part(title: str, text: str, width: int, *, ok: bool = True) -> Iterator[Line]:
    yield (Span(title, "heading"),) if ok else (Span(title, "heading"), Span("  ! not here yet", "warn"))
    yield from _folded(text, width, indent=INDENT)
    yield ()


def _difference_lines(proposal: Proposal, width: int) -> Iterator[Line]:
    yield (Span("What differs from the last one", "heading"),)
    if not proposal.previous:
        yield from _folded("There was none like it before.", width, "dim", INDENT)
    else:
        answered = {"accepted": ", which you accepted", "declined": ", which you declined"}
        told = answered.get(proposal.previous_decision, "")
        yield from _folded(f"{proposal.previous} of {date_text(proposal.previous_at)}{told}", width, "dim", INDENT)
        if not proposal.differences:
            yield from _folded("Nothing: every key is as it was.", width, "", INDENT)
    for each in proposal.differences:
        yield from _keyed(*_sign_and_words(each), width, "strong")
    yield ()


def _sign_and_words(each: Difference) -> tuple[Span, str, str]:
    """A sign says what became of the key; colour repeats it."""
    if each.before is None:
        return Span("+ ", "good"), each.key, each.now or ""
    if each.now is None:
        return Span("− ", "bad"), each.key, f"no more (was {each.before})"
    return Span("~ ", "warn"), each.key, f"{each.before} → {each.now}"


def _keyed(mark: Span, key: str, value: str, width: int, style: str) -> Iterator[Line]:
    """A key and its value side by side, the value folded under itself; a long key has a line of its own."""
    head = INDENT + KEY_COLUMNS + 1
    if len(key) > KEY_COLUMNS or width < 2 * KEY_COLUMNS:
        yield (mark, Span(key, "dim"))
        yield from _folded(value, width, style, 2 * INDENT)
        return
    first, *rest = textwrap.wrap(value, max(width - head, 8), break_long_words=True) or [""]
    yield (mark, Span(key.ljust(KEY_COLUMNS + 1), "dim"), Span(first, style))
    for line in rest:
        yield (Span(" " * head), Span(line, style))


def _folded(text: str, width: int, style: str = "", indent: int = 0) -> Iterator[Line]:
    for line in textwrap.wrap(text, max(width - indent, 8)) if text else ():
        yield (Span(" " * indent), Span(line, style))
