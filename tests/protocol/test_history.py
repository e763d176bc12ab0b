"""What a node believes of a run's past: the chain, and of reports those that belong to it. docs/protocol.md §9."""

from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_world import IDS, KEYS, MODEL, RUN, SCHEMA

from protocol.errors import RemoteProtocolError
from protocol.keys import Hash
from protocol.run.checkpoint import Checkpoint, Report, sign_note
from protocol.run.history import REPORT_ROUNDS_MAX, HistoryEntry, Past, believed, believed_reports
from protocol.run.journal import CommittedRecord, HistoryRecord, ReportsRecord, read_record
from protocol.wire import hash_of, pack, pack_plain

ROSTER = 3  # nodes; the others whose keys there are are strangers


@dataclass(frozen=True)
class Link:
    name: Hash
    checkpoint: Checkpoint
    entry: HistoryEntry


def report(node: int, of: int, name: str, key: int | None = None) -> bytes:
    body = Report(run=RUN, node=IDS[node], round=of, checkpoint=name, samples=5, metrics={"accuracy": 0.5})
    return sign_note(KEYS[node if key is None else key], body)


def chain(rounds: int, story: str = "") -> list[Link]:
    """Newest first; of every round each node's report comes with the next commit."""
    links: list[Link] = []
    previous = hash_of(b"the starting checkpoint")
    for number in range(1, rounds + 1):
        checkpoint = Checkpoint(
            run=RUN, round=number, previous=previous, maker=IDS[number % ROSTER], made_in_term=1, tensor_schema=SCHEMA,
            model=MODEL, difference=hash_of(f"{story} {number}".encode()), server_state="", updates=(), exponents=(),
            parts=(), roster=tuple(IDS[:ROSTER]), entrants=(), voters=tuple(IDS[:ROSTER]), rounds=1000, outcome="",
            reason="",
        )  # fmt: skip
        reports = tuple(report(node, number - 1, previous) for node in range(ROSTER))
        raw = sign_note(KEYS[number % ROSTER], checkpoint)
        previous = hash_of(pack(checkpoint))
        links.insert(0, Link(previous, checkpoint, HistoryEntry(checkpoint=raw, reports=reports)))
    return links


TRUTH, LIE = chain(6), chain(6, "another")


def believed_of(entries: list[HistoryEntry], newest: Hash) -> list[Past]:
    pasts: list[Past] = []
    with suppress(RemoteProtocolError):
        pasts.extend(believed(entries, newest))
    return pasts


@given(st.integers(0, 5), st.integers(1, 6))
def test_a_chain_is_believed_from_any_of_its_checkpoints_on(start: int, count: int) -> None:
    """§9.2."""
    told = TRUTH[start : start + count]
    pasts = believed_of([link.entry for link in told], TRUTH[start].name)
    assert [(past.name, past.checkpoint, past.entry) for past in pasts] == [
        (link.name, link.checkpoint, link.entry) for link in told
    ]


@given(st.lists(st.sampled_from([*TRUTH, *LIE]), max_size=8), st.integers(0, 5))
def test_nothing_is_believed_but_the_chain(told: list[Link], start: int) -> None:
    """§9.2, §9.5: in whatever order a liar tells whatever checkpoints, from the first wrong one on none counts."""
    pasts = believed_of([link.entry for link in told], TRUTH[start].name)
    true = [link.name for link in TRUTH[start:]]
    assert [past.name for past in pasts] == true[: len(pasts)]
    if len(pasts) < len(told):
        assert len(pasts) == len(true) or told[len(pasts)].name != true[len(pasts)]


@given(st.integers(0, 5), st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_an_entry_can_be_changed(place: int, at: int, flip: int) -> None:
    """§9.2."""
    link = TRUTH[place]
    raw = bytearray(link.entry.checkpoint)
    raw[at % len(raw)] ^= flip
    changed = link.entry.model_copy(update={"checkpoint": bytes(raw)})
    with pytest.raises(RemoteProtocolError):
        next(believed([changed], link.name))


def test_who_signs_another_story_is_not_believed() -> None:
    """§9.2: not even where all of it is well formed and signed by nodes of the run."""
    with pytest.raises(RemoteProtocolError, match="builds on"):
        next(believed([LIE[0].entry], TRUTH[0].name))
    told = believed([TRUTH[0].entry, LIE[1].entry], TRUTH[0].name)
    assert next(told).name == TRUTH[0].name
    with pytest.raises(RemoteProtocolError):
        next(told)


@given(st.data())
def test_reports_are_believed_of_the_roster_alone(data: st.DataObject) -> None:
    """§9.3."""
    link, before = TRUTH[2], TRUTH[3]
    number = link.checkpoint.round
    good = [
        *link.entry.reports,
        report(0, number, link.name),  # of a run's last, which comes after its commit
        report(1, number - 2, TRUTH[4].name),  # one that came late
    ]
    bad = [
        report(ROSTER, number - 1, before.name),  # a stranger's
        report(0, number - 1, before.name, key=1),  # in another's name
        report(0, number - 1, LIE[3].name),  # of another story
        report(0, number, before.name),
        report(0, number + 1, link.name),  # of a round to come
        good[0][:-1],
        b"",
    ]
    told = tuple(data.draw(st.permutations([*good, *bad, *good])))
    found = believed_reports(told, link.name, link.checkpoint)
    assert set(found) == set(good)
    assert len(found) == len(good)


def test_a_journal_of_before_is_read() -> None:
    """§9.1: records without reports, as older nodes wrote them."""
    old = pack_plain({"kind": "committed", "checkpoint": TRUTH[0].entry.checkpoint, "acks": ()})
    record = read_record(old)
    assert isinstance(record, CommittedRecord)
    assert record.reports == ()
    for record in (
        CommittedRecord(checkpoint=b"c", acks=(b"a",), reports=(b"r",)),
        ReportsRecord(reports=(b"r",)),
        HistoryRecord(entries=tuple(link.entry for link in TRUTH)),
    ):
        assert read_record(pack(record)) == record


def test_of_a_node_and_round_one_report_is_believed() -> None:
    """§9.3: however many its node has signed, and none of rounds far below."""
    link = TRUTH[0]
    number = link.checkpoint.round
    many = tuple(
        sign_note(
            KEYS[0],
            Report(run=RUN, node=IDS[0], round=number, checkpoint=link.name, samples=samples, metrics={}),
        )
        for samples in range(50)
    )
    forged = report(0, number, link.name, key=1)  # does not keep the true one out
    assert believed_reports((forged, *many, *link.entry.reports), link.name, link.checkpoint) == (
        many[0],
        *link.entry.reports,
    )
    late = link.checkpoint.model_copy(update={"round": number + REPORT_ROUNDS_MAX})
    assert believed_reports((report(0, number, link.name),), hash_of(pack(late)), late)
    later = late.model_copy(update={"round": late.round + 1})
    assert not believed_reports((report(0, number, link.name),), hash_of(pack(later)), later)
