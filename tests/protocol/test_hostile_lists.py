"""What a message full of wrong entries costs, counted in errors, and what of it gets into logs."""

from collections.abc import Iterator
from typing import Any, cast

import msgpack
import pytest
from pydantic import TypeAdapter, ValidationError

import protocol.entrance.invitation
import protocol.entrance.messages as entrance
import protocol.group.operation_kinds
import protocol.group.presence
import protocol.group.sync
import protocol.run.journal  # noqa: F401 - and all others: for their messages
from protocol.errors import RemoteProtocolError
from protocol.limits import FRAME_BYTES_MAX, ROSTER_NODES_MAX
from protocol.run.checkpoint import Checkpoint
from protocol.run.history import HistoryAnswer
from protocol.run.messages import RunMessage
from protocol.wire import Wire, pack_plain, unpack

RUN = "a" * 64
ERRORS_MAX = 600  # of a map with 256 names that nobody knows, and a few within
COMMIT = {"kind": "commit", "run": RUN, "round": 1, "checkpoint": b"", "acks": [], "changes": [], "reports": []}


def why(kind: object, value: object) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as refused:
        unpack(cast(Any, kind), msgpack.packb(value), FRAME_BYTES_MAX)
    return refused.value


def errors_of(refused: RemoteProtocolError) -> int:
    """How many errors were made of the message; none where its entries were not even read."""
    cause = refused.__context__
    return cause.error_count() if isinstance(cause, ValidationError) else 0


@pytest.mark.parametrize("entry", [{}, [], None, 7], ids=repr)
@pytest.mark.parametrize("count", [64, ROSTER_NODES_MAX])
@pytest.mark.parametrize("field", ["acks", "changes", "reports"])
def test_the_first_bad_entry_ends_the_reading(field: str, count: int, entry: object) -> None:
    assert 1 <= errors_of(why(RunMessage, COMMIT | {field: [entry] * count})) <= 6


@pytest.mark.parametrize(
    ("kind", "value", "count"),
    [(HistoryAnswer, {"entries": [{}] * 1024}, 1024), (Checkpoint, {"exponents": ["x"] * 100_000}, 100_000)],
)
def test_long_lists_too(kind: object, value: dict[str, object], count: int) -> None:
    assert 1 <= errors_of(why(kind, value)) <= 30 < count


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RunMessage, COMMIT | {"changes": [{}] * (ROSTER_NODES_MAX + 1)}),
        (HistoryAnswer, {"entries": [[]] * 1_000_000}),
        (Checkpoint, {"exponents": [0] * 100_001}),
        (entrance._ENTRANCE_MESSAGE, {"type": "introduce", "operations": [None] * 1_000_000}),
        (entrance._ENTRANCE_MESSAGE, {"type": "ask", "holds": [None] * (entrance.SHOWN_HASHES_MAX + 1)}),
        (RunMessage, COMMIT | {str(number): 0 for number in range(300)}),
        (RunMessage, [None] * 1_000_000),
    ],
    ids=["commit", "history", "checkpoint", "introduce", "ask", "unknown names", "no map"],
)
def test_what_is_longer_than_anything_of_its_kind_is_not_read_on(kind: object, value: object) -> None:
    refused = why(kind, value)
    assert errors_of(refused) == 0
    assert "has a list of more than" in refused.what


def test_names_that_nobody_knows_are_few() -> None:
    assert errors_of(why(RunMessage, COMMIT | {str(number): 0 for number in range(240)})) <= ERRORS_MAX


def test_every_list_of_every_message_has_a_bound_and_ends_at_its_first_bad_entry() -> None:
    lists = [(kind, part) for kind in _kinds(Wire) for part in _lists_of(TypeAdapter(kind).core_schema)]
    assert len(lists) > 20
    for kind, part in lists:
        assert part.get("fail_fast"), f"a list of {kind.__name__}"
        assert part.get("max_length"), f"a list of {kind.__name__} has no bound"


def _kinds(above: type[Wire]) -> Iterator[type[Wire]]:
    for kind in above.__subclasses__():
        if kind.__module__.startswith("protocol."):
            yield kind
        yield from _kinds(kind)


def _lists_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Tuples of any length, but for those of tables that count for themselves (a task's parameters)."""
    if isinstance(schema, dict) and schema.get("type") != "function-plain":
        if schema.get("type") == "tuple" and "variadic_item_index" in schema:
            yield schema
        for part in schema.values():
            yield from _lists_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _lists_of(part)


@pytest.mark.parametrize(
    "value",
    [
        COMMIT | {"x\n12:00 ERROR all is lost\x1b[2J\u202e" + "x" * 1_000_000: 0},
        COMMIT | {"kind": "y\n\x1b[2J\u2066" + "y" * 1_000_000},
        COMMIT | {"changes": [{"z\n\x07" + "z" * 1_000_000: 1}]},
    ],
    ids=["a name", "a tag", "a name within"],
)
def test_a_complaint_is_one_short_line_whatever_the_sender_wrote(value: dict[str, object]) -> None:
    what = why(RunMessage, value).what
    assert len(what) <= 400
    assert what.isprintable()


def test_what_is_not_hostile_is_told_as_before() -> None:
    with pytest.raises(
        RemoteProtocolError, match=r"A message does not fit at commit\.round: Input should be a valid integer"
    ):
        unpack(cast(Any, RunMessage), pack_plain(COMMIT | {"round": "1"}), FRAME_BYTES_MAX)
