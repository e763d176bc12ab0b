"""Which models a run has made, by its rounds, as this node's journal of it says."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgpack


@dataclass(slots=True)
class Models:
    """A run's models by round. `schemas` are small, and stay."""

    rounds: dict[int, set[str]] = field(default_factory=dict)
    schemas: set[str] = field(default_factory=set)

    def add(self, round_number: int, model: str, schema: str) -> None:
        self.rounds.setdefault(round_number, set()).add(model)
        self.schemas.add(schema)

    def take(self, other: "Models") -> None:
        for number, models in other.rounds.items():
            self.rounds.setdefault(number, set()).update(models)
        self.schemas |= other.schemas

    def all(self) -> set[str]:
        """Every model, and the schemas."""
        return self.schemas.union(*self.rounds.values())


def models_in(records: Iterable[bytes]) -> Models:
    """The models of all checkpoints that a journal holds as committed. It is our own journal: nothing is verified."""
    models = Models()
    for raw in records:
        record = msgpack.unpackb(raw)
        if record["kind"] == "committed" and record["checkpoint"]:
            checkpoint = msgpack.unpackb(msgpack.unpackb(record["checkpoint"])["b"])
            models.add(
                made_in(checkpoint["round"], checkpoint["updates"]), checkpoint["model"], checkpoint["tensor_schema"]
            )
    return models


def made_in(round_number: int, updates: object) -> int:
    """The round that a checkpoint's model is of: an entry that only ends the run has the one before's."""
    return round_number if updates or not round_number else round_number - 1
