"""What all nodes of one run say, as it is gathered: their lines, and of each node why there are none, or not all."""

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.facts.fields import Json, items, name_of, text
from tui.facts.log_lines import HeldLog
from tui.facts.nodes import LogLine

GATHERED_LINES = 2_000  # to begin with, of all nodes together
NODE_COLUMNS = (
    Column("node", 10, 24),
    Column("lines", 7, 7, 2, right=True),
    Column("shares its lines", 18, 400),
)


class Gathered:
    """One gathering. `why` says that it has ended, and by what."""

    def __init__(self, run_id: str, run_name: str) -> None:
        self.run_id = run_id
        self.run_name = run_name
        self.log = HeldLog()
        self.names: dict[str, str] = {}
        self.why = ""
        self._counts: dict[str, int] = {}
        self._troubles: dict[str, str] = {}

    def take(self, event: Json) -> None:
        """One event of GET /v1/runs/{run}/logs/all."""
        match text(event, "type"):
            case "logs":
                told = items(event, "logs")
                for line in told:
                    node = text(line, "node_id")
                    self.names[node] = name_of(line, "node_name", "node_id")
                    self._counts[node] = self._counts.get(node, 0) + 1
                self.log.add(map(LogLine.of, told))
            case "node":
                node = text(event, "node_id")
                self.names[node] = name_of(event, "node_name", "node_id")
                self._troubles[node] = text(event, "reason")
            case "bye":
                self.why = "no more is to come"

    def rows(self) -> ListRows:
        """Every node that was heard of: those that say least first, for they need an explanation."""
        rows = ListRows()
        for node in sorted({*self._counts, *self._troubles}, key=lambda node: (self._counts.get(node, 0), node)):
            trouble = self._troubles.get(node, "")
            shares = Cell(f"✗ {trouble}", "warn") if trouble else Cell("✓ all of them", "good")
            count = Cell(f"{self._counts.get(node, 0):,}")
            rows.append(Row(node, (Cell(self.names.get(node, node[-8:]), "strong"), count, shares)))
        return rows
