"""What befell a run, and what became of its updates, as frozen values. docs/api.md says what each field means."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tui.facts.fields import Json, items, measure, moment, name_of, number, text
from tui.facts.runs import is_set_aside


@dataclass(frozen=True, slots=True)
class Happening:
    """An election, an end or a fault. `name` is empty where it befell the run as a whole."""

    kind: str
    round: int
    at: datetime | None = None
    node_id: str = ""
    name: str = ""
    text: str = ""

    @classmethod
    def of(cls, source: Json) -> "Happening":
        return cls(
            kind=text(source, "kind"),
            round=number(source, "round"),
            at=moment(source, "time"),
            node_id=text(source, "node_id"),
            name=name_of(source, "node_name", "node_id"),
            text=text(source, "text"),
        )

    @property
    def words(self) -> str:
        """What happened, in a line."""
        return " ".join(filter(None, (self.name, self.kind, f"– {self.text}" if self.text else "")))


def happenings_of(answer: Json) -> tuple[Happening, ...]:
    """What an answer of /v1/runs/{run}/timeline has, in its order."""
    return tuple(map(Happening.of, items(answer, "events")))


@dataclass(frozen=True, slots=True)
class Update:
    """What became of one node's update of one round.

    `outcome`: used, late, refused, or aside, where it was fit and the rule took nothing of it. `norm` is None where
    nobody here has computed it.
    """

    round: int
    node_id: str
    name: str = ""
    at: datetime | None = None
    samples: int = 0
    bytes: int = 0
    norm: float | None = None
    outcome: str = ""
    reason: str = ""
    audited: int = 0

    @classmethod
    def of(cls, source: Json) -> "Update":
        reason = text(source, "reason")
        return cls(
            round=number(source, "round"),
            node_id=text(source, "node_id"),
            name=name_of(source, "node_name", "node_id"),
            at=moment(source, "time"),
            samples=number(source, "samples"),
            bytes=number(source, "bytes"),
            norm=measure(source, "norm"),
            outcome="aside" if is_set_aside(reason) else text(source, "outcome"),
            reason=reason,
            audited=number(source, "audited"),
        )


def updates_of(answer: Json) -> tuple[Update, ...]:
    """What an answer of /v1/runs/{run}/updates has, the newest first."""
    return tuple(map(Update.of, items(answer, "updates")))


def last_updates(answer: Json) -> dict[str, Update]:
    """Each node's newest update in an answer of /v1/runs/{run}/updates."""
    return newest(updates_of(answer))


def newest(updates: Iterable[Update]) -> dict[str, Update]:
    """Each node's first among `updates`, which come newest first."""
    found: dict[str, Update] = {}
    for update in updates:
        found.setdefault(update.node_id, update)
    return found
