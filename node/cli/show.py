"""How values look to people: sizes, times, short ids, tables. Rich is loaded for tables on a terminal alone."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from node.cli.common import indented, one_line
from node.network.rates import rate_words, size_text

NODE_ID_SHOWN = 14  # every peer id of an Ed25519 key begins with 12D3KooW; six more tell nodes apart
HASH_SHOWN = 12


def node(node_id: str | None) -> str:
    return (node_id or "")[:NODE_ID_SHOWN]


def short(hash_text: str | None) -> str:
    return (hash_text or "")[:HASH_SHOWN]


def size(count: float | None) -> str:
    """Bytes, in the largest decimal unit that leaves a number above one: 2.5 MB."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit takes everything")


def duration(seconds: float | None) -> str:
    """The two largest units: 1 d 2 h, 3 m 20 s."""
    rest = int(seconds or 0)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def moment(time: str | None) -> str:
    """A time of the API's in this machine's zone: 2026-01-31 12:00:05."""
    if not time:
        return ""
    try:
        return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # the years 1 and 9999 do not fit every zone
        return time


def clock(time: str | None) -> str:
    return moment(time).partition(" ")[2] or (time or "")


def figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def facts(rows: Sequence[tuple[str, object]]) -> str:
    """Names and values in two columns; what has no value is left out."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {indented(str(value))}" for name, value in rows if value not in (None, ""))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: ruled on a terminal, plain columns into a pipe."""
    columns = [one_line(column) for column in columns]  # a measurement's name is a peer's word too
    cells = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _ruled(columns, cells)
    else:
        click.echo(plain_table(columns, cells))


def plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in [columns, *cells]) for place in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *cells]]
    return "\n".join(line.rstrip() for line in lines)


def _ruled(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    ruled = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        ruled.add_column(column, overflow="fold")
    for row in cells:
        ruled.add_row(*row)
    # Cells hold other people's words: nothing in them is markup.
    Console(markup=False, emoji=False, highlight=False).print(ruled)


def names(things: Sequence[dict[str, Any]]) -> str:
    return ", ".join(str(thing["name"]) for thing in things)


def standing(group: dict[str, Any]) -> str:
    """How a node stands in a group of which it is not a part any more, in a word or two; "" while it is in."""
    out = group.get("out")
    if out:
        return {"left": "left", "revoked": "revoked", "void": "out"}.get(out.get("how", ""), "removed")
    return "turned away" if group.get("turned_away") else ""


def out_words(group: dict[str, Any]) -> str:
    """Who put this node out, when, why, and what to do."""
    out = group.get("out")
    if not out:
        return f"{group['turned_away']}. To fix: ask an admin of {group['name']}; you come back by a new invitation"
    return f"{out['text']}. To fix: {out['remedy']}"


def limit_words(limits: dict[str, Any]) -> str:
    """The limits that there are: up 2.5 MB/s = 20 Mbit/s, blobs 50 GB. "" without any."""
    up, down, blobs = (limits.get(key) for key in ("up_bytes_per_s", "down_bytes_per_s", "blobs_max_bytes"))
    words = [f"{way} {rate_words(rate)}" for way, rate in (("up", up), ("down", down)) if rate is not None]
    return ", ".join(words + ([f"blobs {size_text(blobs)}"] if blobs is not None else []))


def running_node(status: dict[str, Any]) -> str:
    """A node that is up, for a person: who it is, where it is, what to do next."""
    known = [each for each in status["groups"] if standing(each) != "left"]
    groups = ", ".join(each["name"] + (f" ({standing(each)})" if standing(each) else "") for each in known)
    shut = [out_words(each) for each in known if standing(each)]
    lines = facts(
        [
            ("  node id", status["node_id"]),
            ("  member id", status["member_id"]),
            ("  home", status["home"]),
            *(("  address", address) for address in status["addresses"]),
            *(("  entrance", address) for address in status["entrance_addresses"]),
            *(("  announced", address) for address in status["announced"]),
            ("  groups", groups or "none yet"),
            *(("  out", words) for words in shut),
            ("  peers", f"{status['peers_connected']} connected"),
            ("  runs", f"{status['runs_active']} going on"),
            ("  trouble", status.get("trouble", "")),
            *(("  trouble", f"{peer['name']}: {peer['trouble']}") for peer in status.get("peers_in_trouble", ())),
            ("  limits", limit_words(status.get("limits", {}))),
            ("  traffic", f"{size(status['bytes_sent'])} sent, {size(status['bytes_received'])} received"),
        ]
    )
    up = f", up {duration(status['uptime_s'])}" if status["uptime_s"] >= 1 else ""
    if status.get("trouble"):
        step = "fednode doctor"
    elif shut and len(shut) == len(known):
        step = "see above; fednode join TOKEN enters again, or another group, and fednode group create NAME begins one"
    elif not groups and not status.get("holds_member_key", True):
        step = "fednode nodes, for your machines; this one enters their groups by itself, as soon as it reaches them"
    elif not groups:
        step = "fednode group create NAME to begin a group, or fednode join TOKEN to enter one"
    else:
        step = "fednode invite, fednode data add NAME PATH, fednode run start FILE, fednode tui"
    return f"Node {status['name']} is running (fednode {status['version']}{up})\n{lines}\nNext: {step}"
