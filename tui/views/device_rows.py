"""What the devices view says: a row a node with its sparklines, one node's larger drawings, its comings and goings."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.picture import Line, Picture, Span
from tui.drawing.sparkline import columns, sparkline, tall_sparkline
from tui.drawing.words import bytes_text, date_text, state_sign
from tui.facts.devices import Change, Device, Devices, Points
from tui.facts.nodes import Peer
from tui.facts.state import State
from tui.views.node_card import LABEL_WIDTH, card, member_names
from tui.views.node_rows import in_order, names_of_runs, presence_cell, presence_style, runs_text

SPARK_LEAST, SPARK_MOST = 4, 20  # cells of a sparkline in the table
BESIDE_SPARKS = 92  # cells that the rest of a row takes, sparklines' figures included
FIGURE_WIDTH = 17  # beside the large drawings
FACT_LINES = 4  # of the node's card that stay in sight below them
TALL_MOST = 4  # rows of one large drawing; more would tell no more

DEVICE_COLUMNS = (
    Column("node", 10, 24),
    Column("state", 6, 6),
    Column("CPU", 9, SPARK_MOST + 5, 1),
    Column("memory", 9, SPARK_MOST + 5, 2),
    Column("network", 13, SPARK_MOST + 9, 5),
    Column("free disk", 12, SPARK_MOST + 8, 4),
    Column("GPU", 9, SPARK_MOST + 5, 3),
    Column("runs", 4, 30, 6),
    Column("member", 8, 20, 7),
    Column("version", 7, 10, 8),
)
CHANGE_COLUMNS = (
    Column("time", 11, 11),
    Column("state", 9, 9),
    Column("why", 8, 60, 1),
)
CHANGE_SIGNS = {"HERE": ("●", "good"), "AWAY": ("✗", "bad"), "STARTED": ("▶", "good"), "STOPPED": ("■", "warn")}


class Gauge(NamedTuple):
    """One line to draw: what it is called, its points, the values of its lowest and its fullest block, its figure."""

    label: str
    points: Points
    low: float
    high: float
    figure: str


def gauges(device: Device, peer: Peer | None) -> Iterator[Gauge]:
    """What is known of a node, in the order of the columns; of what nobody knows there is none."""
    cores = peer.cpu_cores if peer else 0
    if device.points("cpu_percent"):
        yield _percent("CPU", device, "cpu_percent")
    elif points := device.points("load_1m"):
        yield Gauge("load", points, 0.0, float(cores or max(value for _, value in points)), f"{points[-1][1]:.2f}")
    if device.points("memory_percent"):
        yield _percent("memory", device, "memory_percent")
    for label, key in (("received", "network_received_bytes_per_s"), ("sent", "network_sent_bytes_per_s")):
        if points := device.points(key):
            yield Gauge(label, points, 0.0, max(value for _, value in points), f"{bytes_text(round(points[-1][1]))}/s")
    if points := device.points("disk_free_bytes"):
        in_all = points[-1][1] + (device.latest("disk_bytes") or 0.0)
        yield Gauge("disk", points, 0.0, max(in_all, *(value for _, value in points)), bytes_text(round(points[-1][1])))
    if device.points("gpu_percent"):
        yield _percent("GPU", device, "gpu_percent")


def _percent(label: str, device: Device, key: str) -> Gauge:
    points = device.points(key)
    return Gauge(label, points, 0.0, 100.0, f"{points[-1][1]:.0f}%")


def _traffic(device: Device) -> Gauge | None:
    """Both directions in one line, where both are known."""
    received = device.points("network_received_bytes_per_s")
    sent = dict(device.points("network_sent_bytes_per_s"))
    both = tuple((time, value + sent[time]) for time, value in received if time in sent)
    if not both:
        return None
    return Gauge("network", both, 0.0, max(value for _, value in both), f"{bytes_text(round(both[-1][1]))}/s")


def device_rows(state: State, devices: Devices, width: int) -> ListRows:
    """One row a node, in their order."""
    ordered = in_order(state)
    spark = min(max((width - BESIDE_SPARKS) // 5, SPARK_LEAST), SPARK_MOST)
    members = member_names(state)
    runs = names_of_runs(state) if any(peer.runs for peer in ordered) else {}
    return ListRows(
        Row(
            peer.node_id,
            (
                Cell(peer.name, presence_style(state, peer)),
                presence_cell(state, peer),
                *_spark_cells(devices, peer, spark),
                Cell(runs_text(peer, runs)),
                Cell(members.get(peer.member_id, peer.member_id[-8:])),
                Cell(peer.version, "dim"),
            ),
        )
        for peer in ordered
    )


def _spark_cells(devices: Devices, peer: Peer, spark: int) -> Iterator[Cell]:
    device = devices.of(peer.node_id)
    known = {gauge.label: gauge for gauge in gauges(device, peer)}
    for gauge, digits in (
        (known.get("CPU") or known.get("load"), 4),
        (known.get("memory"), 4),
        (_traffic(device), 9),
        (known.get("disk"), 7),
        (known.get("GPU"), 4),
    ):
        if gauge is None:
            yield Cell("–", "dim")
        else:
            drawn = sparkline(columns(gauge.points, devices.start, devices.end, spark), gauge.low, gauge.high)
            style = "warn" if gauge.figure.endswith("%") and gauge.points[-1][1] >= FULL_PERCENT else ""
            yield Cell(f"{drawn} {gauge.figure:>{digits}}", style)


FULL_PERCENT = 95.0  # of anything: from here on it is in somebody's way


def device_picture(state: State, devices: Devices, node_id: str, width: int, height: int) -> Picture:
    """One node's lines as large as there is room for, and below them its card."""
    drawn = list(gauges(devices.of(node_id), state.peers.get(node_id)))
    room = max(height - min(FACT_LINES, height // 2), 0)
    rows = min(max(room // len(drawn), 1), TALL_MOST) if drawn else 0
    lines = [line for gauge in drawn for line in _large(gauge, devices, width, rows)][: max(room, rows)]
    if not drawn and height > FACT_LINES:
        lines.append((Span("nothing was told of its machine yet", "dim"),))
    rest = card(state, node_id, width, max(height - len(lines), 0))
    return Picture(width, height, (*lines, *rest.lines)[:height])


def _large(gauge: Gauge, devices: Devices, width: int, rows: int) -> Iterator[Line]:
    across = max(width - LABEL_WIDTH - FIGURE_WIDTH - 1, 1)
    values = columns(gauge.points, devices.start, devices.end, across)
    most = max(value for _, value in gauge.points)
    for row, drawn in enumerate(tall_sparkline(values, gauge.low, gauge.high, rows)):
        label = gauge.label if row == rows - 1 else ""
        figure = gauge.figure if row == rows - 1 else f"most {_told(gauge, most)}" if row == 0 else ""
        figure += " free" if row == rows - 1 and gauge.label == "disk" else ""
        yield (
            Span(f"{label:<{LABEL_WIDTH}} ", "dim"),
            Span(f"{drawn:<{across}}", "series-0"),
            Span(f" {figure:>{FIGURE_WIDTH - 1}}", "strong" if row == rows - 1 else "dim"),
        )


def _told(gauge: Gauge, value: float) -> str:
    """A value in the unit of the gauge's figure."""
    if gauge.figure.endswith("%"):
        return f"{value:.0f}%"
    if gauge.label == "load":
        return f"{value:.2f}"
    return bytes_text(round(value)) + ("/s" if gauge.figure.endswith("/s") else "")


def change_rows(changes: Sequence[Change]) -> ListRows:
    """One row a change, the newest first."""
    rows = ListRows()
    for number, change in enumerate(changes):
        sign, style = CHANGE_SIGNS.get(change.state, (state_sign(change.state), ""))
        cells = (Cell(date_text(change.time)[5:], "dim"), Cell(f"{sign} {change.state}", style), Cell(change.reason))
        rows.append(Row(str(len(changes) - number), cells))
    return rows


def span_text(devices: Devices) -> str:
    """How long the lines' time is, for a title."""
    minutes = round((devices.end - devices.start) / 60)
    return f"the last {minutes} min" if devices.nodes and minutes > 0 else ""
