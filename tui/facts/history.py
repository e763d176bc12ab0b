"""What was signed in a group, as the history of the local API tells it."""

from dataclasses import dataclass
from datetime import datetime

from tui.facts.fields import Json, items, moment, number, text, texts


@dataclass(frozen=True, slots=True)
class Signed:
    """One signed operation, in words. `why`: why it does not count, or nothing. `claimed_at`: as its author says."""

    hash: str
    kind: str
    claimed_at: datetime | None
    by_node: str
    by_name: str
    by_member: str
    text: str
    why: str
    parents: tuple[str, ...]
    previous: str
    bytes: int


@dataclass(frozen=True, slots=True)
class History:
    """The newest operations, newest first. `total`: how many there are."""

    operations: tuple[Signed, ...]
    total: int

    def find(self, hash_text: str) -> Signed | None:
        return next((each for each in self.operations if each.hash == hash_text), None)


def history_of(answer: Json) -> History:
    return History(tuple(map(_signed, items(answer, "operations"))), number(answer, "total"))


def _signed(source: Json) -> Signed:
    return Signed(
        hash=text(source, "hash"),
        kind=text(source, "kind"),
        claimed_at=moment(source, "claimed_at"),
        by_node=text(source, "by_node"),
        by_name=text(source, "by_name"),
        by_member=text(source, "by_member"),
        text=text(source, "text"),
        why=text(source, "why"),
        parents=texts(source, "parents"),
        previous=text(source, "previous"),
        bytes=number(source, "bytes"),
    )
