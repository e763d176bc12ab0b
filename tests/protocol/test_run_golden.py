"""The bytes of a run's messages and signed notes, so that two versions of fednode never disagree by accident.

Run this file as a script, before a release only, to write the golden file anew.
"""

import json
from pathlib import Path

import msgpack
import pytest
from run_world import IDS, KEYS, MODEL, RUN, SCHEMA, ready_note

from protocol.errors import RemoteProtocolError
from protocol.limits import FRAME_BYTES_MAX
from protocol.run import messages
from protocol.run.checkpoint import (
    Ack,
    Checkpoint,
    Declined,
    Issue,
    Offer,
    Part,
    Receipt,
    Report,
    RunStart,
    Span,
    UpdateEntry,
    open_checkpoint,
    open_offer,
    sign_note,
)
from protocol.run.journal import CommittedRecord, OfferRecord, StoredRecord, TermRecord, read_record
from protocol.wire import Wire, hash_of, pack, unpack

GOLDEN = Path(__file__).with_name("run_golden.json")


def notes() -> dict[str, bytes]:
    offer = Offer(
        run=RUN, node=IDS[1], round=3, base=hash_of(b"base"), update=hash_of(b"update"), update_bytes=1234,
        samples=99, steps=40, codec="bf16", metrics={"accuracy": 0.5, "loss": 1.25},
        spans=(Span("fetch", 2, 1_800_000_000.5, 0.25, 4096), Span("train", 3, 1_800_000_001.0, 12.5, 0)),
        usage={"cpu_percent": 97.5},
    )  # fmt: skip
    raw_offer = sign_note(KEYS[1], offer)
    checkpoint = Checkpoint(
        run=RUN, round=3, previous=hash_of(b"base"), maker=IDS[0], made_in_term=2, tensor_schema=SCHEMA, model=MODEL,
        difference=hash_of(b"difference"), server_state="",
        updates=(UpdateEntry(offer=raw_offer, weight=99, refused="", reason=""),), exponents=(24, 25),
        parts=(Part(start=0, stop=10, aggregator=IDS[0]),), roster=(IDS[0], IDS[1]), entrants=(),
        voters=(IDS[0], IDS[1]),
        rounds=10, outcome="", reason="",
    )  # fmt: skip
    name = hash_of(b"checkpoint")
    spans = (Span("evaluate", 3, 1_800_000_002.0, 1.5, 0),)
    report = Report(run=RUN, node=IDS[1], round=3, checkpoint=name, samples=20, metrics={"accuracy": 0.75}, spans=spans)
    return {
        "ready": ready_note(1),
        "declined": sign_note(KEYS[2], Declined(run=RUN, node=IDS[2], code="no-such-data", reason="no data here")),
        "offer": raw_offer,
        "checkpoint": sign_note(KEYS[0], checkpoint),
        "issue": sign_note(KEYS[0], Issue(run=RUN, term=2, round=3, checkpoint=name)),
        "ack": sign_note(KEYS[1], Ack(run=RUN, term=2, round=3, checkpoint=name, node=IDS[1])),
        "receipt": sign_note(KEYS[0], Receipt(run=RUN, term=2, round=3, node=IDS[1], offer=hash_of(raw_offer))),
        "report": sign_note(KEYS[1], report),
    }


def samples() -> dict[str, Wire]:
    note = notes()
    name = hash_of(b"checkpoint")
    return {
        "start": RunStart(run=RUN, roster=(note["ready"],), tensor_schema=SCHEMA, model=MODEL),
        "prevote": messages.PreVoteRequest(run=RUN, term=2, stored_term=1, stored_round=3),
        "prevote-reply": messages.PreVoteReply(run=RUN, term=2, granted=True),
        "vote": messages.VoteRequest(run=RUN, term=2, stored_term=1, stored_round=3),
        "vote-reply": messages.VoteReply(run=RUN, term=2, granted=False),
        "heartbeat": messages.Heartbeat(run=RUN, term=2, committed_round=3, committed=name, opened=True, states="TW"),
        "heartbeat-reply": messages.HeartbeatReply(run=RUN, term=2, committed_round=3, state="T"),
        "proposal": messages.Proposal(run=RUN, issue=note["issue"], checkpoint=note["checkpoint"]),
        "ack": messages.Acknowledgement(run=RUN, ack=note["ack"]),
        "commit": messages.Commit(
            run=RUN, round=3, checkpoint=note["checkpoint"], acks=(note["ack"],), reports=(note["report"],)
        ),
        "ask-commit": messages.AskCommit(run=RUN, have_round=2),
        "offer": messages.OfferMessage(run=RUN, offer=note["offer"]),
        "receipt": messages.ReceiptMessage(run=RUN, receipt=note["receipt"]),
        "refusal": messages.RefusalMessage(
            run=RUN, term=2, offer=hash_of(note["offer"]), code="norm-too-large", reason="its norm 41 is over 10"
        ),
        "report": messages.ReportMessage(run=RUN, report=note["report"]),
        "reports": messages.Reports(run=RUN, reports=(note["report"],)),
        "ready": messages.ReadyMessage(run=RUN, ready=note["ready"]),
        "declined": messages.DeclinedMessage(run=RUN, declined=note["declined"]),
        "term-record": TermRecord(term=2, voted_for=IDS[0]),
        "stored-record": StoredRecord(issue=note["issue"], checkpoint=note["checkpoint"]),
        "committed-record": CommittedRecord(checkpoint=note["checkpoint"], acks=(note["ack"],)),
        "offer-record": OfferRecord(offer=note["offer"]),
    }


def everything() -> dict[str, str]:
    packed = {name: pack(message).hex() for name, message in samples().items()}
    return packed | {f"signed {name}": raw.hex() for name, raw in notes().items()}


@pytest.mark.parametrize("name", sorted(everything()))
def test_bytes_are_golden(name: str) -> None:
    assert everything()[name] == json.loads(GOLDEN.read_text())[name]


def test_messages_come_back_as_they_were() -> None:
    for name, message in samples().items():
        if name == "start":
            assert unpack(RunStart, pack(message), FRAME_BYTES_MAX) == message
        elif name.endswith("-record"):
            assert read_record(pack(message)) == message
        else:
            assert unpack(messages.RunMessage, pack(message), FRAME_BYTES_MAX) == message  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["offer", "checkpoint"])
def test_a_note_by_another_hand_is_refused(name: str) -> None:
    """§8.3: an offer is its node's own, a checkpoint its maker's."""
    note, opened = notes()[name], {"offer": open_offer, "checkpoint": open_checkpoint}[name]
    body = opened(note).body  # type: ignore[operator]
    with pytest.raises(RemoteProtocolError, match="in the name of"):
        opened(sign_note(KEYS[9], body))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("field", "value"), [("run", "x"), ("term", -1), ("term", True), ("term", "1"), ("term", 2**60), ("extra", 1)]
)
def test_a_malformed_message_is_refused(field: str, value: object) -> None:
    good = msgpack.unpackb(pack(samples()["prevote"]))
    with pytest.raises(RemoteProtocolError):
        unpack(messages.RunMessage, msgpack.packb(good | {field: value}), FRAME_BYTES_MAX)  # type: ignore[arg-type]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(everything(), indent=1) + "\n")
