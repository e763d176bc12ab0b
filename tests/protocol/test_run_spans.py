"""What nodes were busy with goes with notes that they send anyway, once, and never at the expense of those. §8.22."""

import math
from typing import Any

import pytest
from pydantic import ConfigDict
from run_victims import Gatherer
from run_world import IDS, KEYS, RUN, World

from protocol.errors import RemoteProtocolError
from protocol.keys import Hash
from protocol.limits import OFFERS_BYTES_MAX
from protocol.run.checkpoint import SPANS_MAX, Offer, Report, Span, open_offer, open_report, sign_note
from protocol.run.events import Committed, Evaluated, Measured, RunOutput, Trained, TrainingFailed
from protocol.run.machine import RunMachine
from protocol.signing import sign
from protocol.wire import Wire, hash_of


def span(name: Any, number: int, seconds: float = 1.5) -> Span:
    return Span(name, number, 1_800_000_000.25, seconds, 99)


def offer(round_number: int, base: str, **changes: Any) -> Offer:
    body = {
        "run": RUN, "node": IDS[0], "round": round_number, "base": base, "update": hash_of(b"update"),
        "update_bytes": 9, "samples": 10, "codec": "fp32", "metrics": {}, **changes,
    }  # fmt: skip
    return Offer(**body)


class Unchecked(Wire):
    """What a node says that has no rules."""

    model_config = ConfigDict(extra="allow")


def signed(body: dict[str, Any]) -> bytes:
    return sign(KEYS[0], "run-offer", Unchecked(**body))


class Trainee:
    """Node 0 of a run some rounds in: what its training and measuring give from then on, a test says."""

    def __init__(self) -> None:
        world = World(3, 4, rounds=9)
        world.run(4.0, until_ended=False)
        assert world.nodes[0].machine is not None
        self.machine: RunMachine = world.nodes[0].machine
        self.now = world.now
        committed = self.machine.ledger.committed
        assert committed is not None
        self.name: Hash = committed.name
        self.round = committed.checkpoint.round
        self.machine.participation.offer = None

    def trained(self, **changes: Any) -> list[RunOutput]:
        return self.machine.step(Trained(offer(self.round + 1, self.name, **changes)), self.now)

    def evaluated(self, samples: int, spans: tuple[Span, ...]) -> list[RunOutput]:
        figures = {"accuracy": 0.5} if samples else {}
        return self.machine.step(Evaluated(self.round, self.name, samples, figures, spans), self.now)

    @property
    def offered(self) -> Offer:
        assert self.machine.participation.offer is not None
        raw, body = self.machine.participation.offer
        assert open_offer(raw).body == body
        return body


def reports_in(outputs: list[RunOutput]) -> list[Report]:
    return [open_report(raw).body for output in outputs if isinstance(output, Measured) for raw in output.reports]


def test_spans_go_with_the_offer() -> None:
    """§8.22."""
    node, told = Trainee(), (span("wait", 1), span("train", 2))
    node.trained(spans=told, usage={"cpu_percent": 97.5})
    assert (node.offered.spans, node.offered.usage) == (told, {"cpu_percent": 97.5})


def test_a_measurement_carries_spans_and_what_nobody_was_told_goes_with_the_next_offer() -> None:
    """§8.22: once, and no note is sent for their sake while an offer is to come."""
    node = Trainee()
    (report,) = reports_in(node.evaluated(20, (span("evaluate", 1),)))
    assert report.spans == (span("evaluate", 1),)
    assert reports_in(node.evaluated(0, (span("fetch", 1), span("wait", 1)))) == []
    node.trained(spans=(span("train", 2),))
    assert node.offered.spans == (span("fetch", 1), span("wait", 1), span("train", 2))
    assert reports_in(node.evaluated(0, ())) == []
    (report,) = reports_in(node.evaluated(20, ()))
    assert report.spans == ()


def test_who_sends_no_offer_tells_by_a_report() -> None:
    """§8.22: an aggregator that does not train, say."""
    node = Trainee()
    node.machine.step(TrainingFailed(node.round + 1, "no memory"), node.now)
    (report,) = reports_in(node.evaluated(0, (span("aggregate", 1),)))
    assert (report.samples, report.metrics, report.spans) == (0, {}, (span("aggregate", 1),))
    assert reports_in(node.evaluated(0, ())) == []


def test_a_note_with_little_room_leaves_spans_out() -> None:
    """§8.22: of an offer that is too long nothing would count."""
    node = Trainee()
    crowd = OFFERS_BYTES_MAX // 600  # so many that 600 bytes are left for each
    newest = node.machine.ledger.newest
    nobody = tuple(f"node {number}" for number in range(crowd - len(newest.roster)))
    held = node.machine.ledger.committed
    assert held is not None
    object.__setattr__(held, "checkpoint", newest.model_copy(update={"roster": (*newest.roster, *nobody)}))
    assert len(node.machine.ledger.newest.roster) == crowd
    told = tuple(span(name, 1) for name in ("wait", "fetch", "upload", "aggregate", "evaluate"))
    raw, body = node.machine.participation._signed_offer(offer(2, node.name, spans=told, usage={"cpu_percent": 1.0}))
    assert (body.spans, body.usage, open_offer(raw).body) == ((), {}, body)
    assert len(raw) < 600 < len(sign_note(KEYS[0], offer(2, node.name, spans=told)))


def test_no_more_than_so_many_are_kept_and_the_newest_of_them() -> None:
    node = Trainee()
    for number in range(20):
        node.evaluated(0, (span("fetch", number),))
    node.trained(spans=(span("train", 21),))
    assert [entry.round for entry in node.offered.spans] == [*range(20 - SPANS_MAX + 1, 20), 21]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spans", (("sleep", 1, 0.0, 1.0, 0),)),
        ("spans", (("train", 1, 0.0, math.nan, 0),)),
        ("spans", (("train", 1, 0.0, -1.0, 0),)),
        ("spans", (("train", 1, 1e15, 1.0, 0),)),
        ("spans", (("train", 1, 0.0, 1.0, 0, 0),)),
        ("spans", (("train", 1, 0.0, 1.0),)),
        ("spans", (("train", 1, 0.0, 1.0, 0),) * (SPANS_MAX + 1)),
        ("usage", {"CPU %": 1.0}),
        ("usage", {"cpu_percent": math.inf}),
        ("usage", {f"key_{number}": 1.0 for number in range(17)}),
    ],
)
def test_what_no_honest_node_tells_is_refused(field: str, value: Any) -> None:
    raw = signed({**offer(1, hash_of(b"base")).model_dump(), field: value})
    with pytest.raises(RemoteProtocolError):
        open_offer(raw)
    gatherer = Gatherer()
    peer = gatherer.others[0]
    assert gatherer.offer(peer, raw) != []
    assert IDS[peer] not in gatherer.machine.reign.gathering.offers  # type: ignore[union-attr]


def test_notes_of_a_fednode_without_spans_are_read() -> None:
    """What lies in journals from before is still an offer."""
    body = offer(1, hash_of(b"base")).model_dump()
    del body["spans"], body["usage"]
    raw = signed(body)
    assert open_offer(raw).body == offer(1, hash_of(b"base"))


def test_everybody_gets_everybodys_with_the_commit() -> None:
    """§8.22."""
    world = World(5, 4, rounds=3)
    seen: dict[int, set[tuple[str, int]]] = {index: set() for index in range(4)}
    for node in world.nodes:
        assert node.machine is not None

        def step(event: Any, now: float, honest: Any = node.machine.step, index: int = node.index) -> list[RunOutput]:
            if isinstance(event, Trained):
                told = (span("train", event.offer.round),)
                event = Trained(event.offer.model_copy(update={"spans": told}))
            outputs: list[RunOutput] = honest(event, now)
            commits = [output.checkpoint for output in outputs if isinstance(output, Committed)]
            offers = [open_offer(entry.offer).body for checkpoint in commits for entry in checkpoint.updates]
            seen[index] |= {(body.node, each.round) for body in offers for each in body.spans}
            return outputs

        node.machine.step = step  # type: ignore[method-assign]
    world.run(60.0)
    everything = {(IDS[index], number) for index in range(4) for number in (1, 2, 3)}
    assert seen == dict.fromkeys(range(4), everything)
