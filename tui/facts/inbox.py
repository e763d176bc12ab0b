"""What waits for a person, as the node tells it: items of the inbox, and what a run's proposal asks for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tui.facts.fields import Json, items, moment, name_of, object_of, text, texts
from tui.facts.runs import Run


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that waits. `needs`: "answer" stays until there is one, "look" until somebody has seen it."""

    item_id: str
    kind: str = ""
    time: datetime | None = None
    title: str = ""
    text: str = ""
    run_id: str = ""
    node_id: str = ""
    group_id: str = ""
    needs: str = "look"
    actions: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """It is a proposal that is to be accepted or declined."""
        return self.kind == "proposal" and "accept" in self.actions

    @classmethod
    def of(cls, source: Json) -> "Item":
        return cls(
            item_id=text(source, "id"),
            kind=text(source, "kind"),
            time=moment(source, "time"),
            title=text(source, "title"),
            text=text(source, "text"),
            run_id=text(source, "run_id"),
            node_id=text(source, "node_id"),
            group_id=text(source, "group_id"),
            needs=text(source, "needs"),
            actions=texts(source, "actions"),
        )


def _asking(run: Run) -> Item:
    return Item(
        item_id=f"proposal-{run.run_id}",  # as the node will call it
        kind="proposal",
        time=run.created_at,
        title=f"Run {run.name} waits for your answer",
        text=f"{run.proposer_name or 'Somebody'} proposes it.",
        run_id=run.run_id,
        needs="answer",
        actions=("accept", "decline", "run"),
    )


def waiting(told: Sequence[Item], runs: Iterable[Run]) -> tuple[Item, ...]:
    """The inbox, kept in step with the runs, which are told of sooner: a run that asks us is in it at once, and one
    that has its answer is not any more."""
    known = {run.run_id: run for run in runs}
    kept = [item for item in told if not (item.asks and (run := known.get(item.run_id)) and not run.asks_us)]
    there = {item.run_id for item in kept if item.asks}
    new = [_asking(run) for run in known.values() if run.asks_us and run.run_id not in there]
    return (*new, *kept)


@dataclass(frozen=True, slots=True)
class Difference:
    """A key of the configuration that is not as it was; None where it was, or is, not there."""

    key: str
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a run asks of us. `code_here`, `data_here`: whether this node has what it needs to accept."""

    run_id: str = ""
    name: str = ""
    proposer_name: str = ""
    proposer_member: str = ""
    configuration: tuple[tuple[str, str], ...] = ()
    task: str = ""
    code: str = ""
    code_here: bool = True
    data_wanted: str = ""
    data: str = ""
    data_here: bool = True
    data_names: tuple[str, ...] = ()
    previous: str = ""
    previous_decision: str = ""
    previous_at: datetime | None = None
    differences: tuple[Difference, ...] = ()


def items_of(answer: Json) -> tuple[Item, ...]:
    """The items that an answer of /v1/inbox, or an event of type inbox, has."""
    return tuple(map(Item.of, items(answer, "inbox")))


def proposal_of(answer: Json) -> Proposal:
    """What an answer of /v1/runs/{run}/proposal says; empty while there is none."""
    code, data, previous = (object_of(answer, key) for key in ("code", "data", "previous"))
    wanted, names = text(data, "wanted"), texts(data, "here")
    return Proposal(
        run_id=text(answer, "run_id"),
        name=text(answer, "name"),
        proposer_name=name_of(answer, "proposer_name", "proposer"),
        proposer_member=name_of(answer, "proposer_member_name", "proposer_member"),
        configuration=_shown(object_of(answer, "configuration")),
        task=text(code, "task"),
        code=text(code, "what"),
        code_here=code.get("here") is not False,
        data_wanted=wanted,
        data=text(data, "what"),
        data_here=data.get("needed") is not True or wanted in names,
        data_names=names,
        previous=text(previous, "name"),
        previous_decision=text(previous, "decision"),
        previous_at=moment(previous, "created_at"),
        differences=tuple(
            Difference(text(each, "key"), _value(each, "before"), _value(each, "now"))
            for each in items(answer, "differences")
        ),
    )


def _shown(source: Json) -> tuple[tuple[str, str], ...]:
    """Keys and values as safe texts. The keys too are a peer's words."""
    return tuple((text({"key": key}, "key"), _value(source, key) or "") for key in source)


def _value(source: Json, key: str) -> str | None:
    value = source.get(key)
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else text(source, key)
