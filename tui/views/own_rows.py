"""What is said of one's own nodes: a row a node, a row a device link, and a page of who one is and what is wrong."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.picture import Line, Span
from tui.drawing.words import counted, date_text
from tui.facts.own import Check, DeviceLink, OwnNode, OwnNodes, Profile

OWN_COLUMNS = (
    Column("own node", 8, 24),
    Column("state", 9, 9),
    Column("member's key", 12, 12, 1),
    Column("last heard", 16, 16, 3),
    Column("groups", 14, 60, 2),
    Column("since", 16, 16, 4),
)
LINK_COLUMNS = (
    Column("device link", 11, 12),
    Column("used by", 15, 24),
    Column("good until", 16, 16, 1),
)
CHECK_SIGNS = {"ok": ("✓", "good"), "warning": ("▲", "warn"), "wrong": ("✗", "bad")}
ID_SHOWN = 10
INDENT = 2
NOT_SAID = "not said"


def own_rows(own: OwnNodes, *, is_record: bool) -> ListRows:
    """One row a node. The state is a sign and a word; who is revoked is quiet, and since when stands in its row."""
    return ListRows(
        Row(
            node.node_id,
            (
                Cell(node.name, "self" if node.is_self else "dim" if node.revoked_at else ""),
                _state(node, is_record=is_record),
                Cell("holds it" if node.holds_member_key else "–", "accent" if node.holds_member_key else "dim"),
                Cell(date_text(node.last_heard_at), "dim"),
                Cell(", ".join(node.groups) or "–", "" if node.groups else "dim"),
                Cell(date_text(node.revoked_at or node.issued_at), "dim"),
            ),
        )
        for node in own.nodes
    )


def _state(node: OwnNode, *, is_record: bool) -> Cell:
    if node.revoked_at is not None:
        return Cell("⊘ revoked", "bad")
    if is_record:
        return Cell("–", "dim")
    if node.is_self:
        return Cell("● us", "good")
    return Cell("● here", "good") if node.connected else Cell("✗ away", "warn")


def link_rows(own: OwnNodes, now: datetime) -> ListRows:
    """One row a device link, those first that nobody has used."""
    names = {node.node_id: node.name for node in own.nodes}
    return ListRows(
        Row(
            each.link_id,
            (
                Cell(each.link_id[:ID_SHOWN]),
                _user(each, names, now),
                Cell(date_text(each.expires_at), "dim"),
            ),
        )
        for each in sorted(own.links, key=lambda link: bool(link.used_by))
    )


def _user(link: DeviceLink, names: Mapping[str, str], now: datetime) -> Cell:
    if link.used_by:
        return Cell(names.get(link.used_by, link.used_by))
    if link.revoked:
        return Cell("nobody: revoked", "dim")
    is_over = link.expires_at is not None and link.expires_at < now
    return Cell("nobody: expired", "dim") if is_over else Cell("nobody yet", "warn")


def own_page(
    profile: Profile | None, no_profile: str, checks: Sequence[Check] | None, no_checks: str, width: int
) -> tuple[Line, ...]:
    """Who one says that one is, and what the doctor found. `no_profile`, `no_checks`: why these are not known."""
    lines: list[Line] = [(Span("What you say of yourself", "heading"), Span("  e changes it", "dim"))]
    if profile is None:
        lines += _folded(no_profile or "…", width, "dim", INDENT)
    else:
        for label, value in (
            ("name", profile.name),
            ("organisation", profile.organisation),
            ("contact", profile.contact),
        ):
            lines.append((Span(f"  {label:<13}", "dim"), Span(value or NOT_SAID, "" if value else "dim")))
    lines.append(())
    if checks is None:
        lines.append((Span("Doctor", "heading"),))
        lines += _folded(no_checks or "looking …", width, "dim", INDENT)
    else:
        lines.append((Span("Doctor", "heading"), Span(f"  {checks_text(checks)}", _worst(checks))))
        for check in checks:
            lines += _check_lines(check, width)
    return tuple(lines)


def checks_text(checks: Sequence[Check]) -> str:
    """How many checks came to what, the worst first."""
    wrong = sum(check.state not in ("warning", "ok") for check in checks)
    warnings = sum(check.state == "warning" for check in checks)
    fine = len(checks) - wrong - warnings
    words = [f"{wrong} wrong"] if wrong else []
    words += [counted(warnings, "warning")] if warnings else []
    return ", ".join([*words, f"{fine} in order"])


def _worst(checks: Sequence[Check]) -> str:
    return CHECK_SIGNS.get(checks[0].state, ("", "bad"))[1] if checks else "dim"


def _check_lines(check: Check, width: int) -> Iterator[Line]:
    """The sign, what it is about and how that is; below it what to do, where something is to be done."""
    sign, style = CHECK_SIGNS.get(check.state, ("✗", "bad"))
    first, *rest = textwrap.wrap(f"{check.name}: {check.text}", max(width - 2 * INDENT, 8)) or [""]
    yield (Span(f"  {sign} ", style), Span(first, "" if check.state != "ok" else "dim"))
    for line in rest:
        yield (Span(" " * 2 * INDENT), Span(line, "" if check.state != "ok" else "dim"))
    if check.remedy and check.state != "ok":
        yield from _folded(f"→ {check.remedy}", width, "key", 2 * INDENT)


def _folded(text: str, width: int, style: str, indent: int) -> Iterator[Line]:
    for line in textwrap.wrap(text, max(width - indent, 8)):
        yield (Span(" " * indent), Span(line, style))
