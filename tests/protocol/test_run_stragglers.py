"""Slow nodes: deadlines that adapt, and updates that come a round late. docs/protocol.md §8.7, §8.19, §8.20."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_world import IDS, KEYS, RUN, Faults, World

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.run.checkpoint import Checkpoint, Offer, UpdateEntry, open_offer, sign_note
from protocol.run.events import Received
from protocol.run.lateness import check_late_updates, counted_samples, may_come_late
from protocol.run.messages import OfferMessage, RunMessage
from protocol.run.pace import STRAGGLER_FACTOR, Pace, adaptive_deadline_s
from protocol.wire import hash_of

SLOW = 3


def used_by_round(world: World) -> dict[int, dict[str, tuple[int, int]]]:
    """Of every committed round: who was used, with the round that it trained for and its samples there."""
    rounds: dict[int, dict[str, tuple[int, int]]] = {}
    for checkpoint in world.checkpoints.values():
        offers = [open_offer(entry.offer).body for entry in checkpoint.updates if not entry.refused]
        rounds[checkpoint.round] = {
            offer.node: (offer.round, counted_samples(offer, checkpoint.round)) for offer in offers
        }
    return rounds


def slow_world(seed: int, slow_s: float, *, rounds: int = 8, faults: Faults | None = None, **settings: Any) -> World:
    world = World(seed, 4, rounds=rounds, faults=faults, **settings)
    world.training_s[SLOW] = slow_s
    return world


def test_the_round_goes_on_without_the_slow_and_their_updates_are_refused() -> None:
    """§8.7, §8.20: they are slow, not dead: nobody calls them lost, and they stay in the roster."""
    world = slow_world(1, 7.0, round_deadline_s=3.0)
    world.run(200.0)
    world.check_ended("finished")
    assert all(IDS[SLOW] not in used for number, used in used_by_round(world).items())
    assert world.reasons[IDS[SLOW]] >= {"the update for round 1 came too late"}
    assert "LOST" not in world.states[IDS[SLOW]]
    assert IDS[SLOW] in world.nodes[0].machine.ledger.newest.roster  # type: ignore[union-attr]


def test_late_updates_are_used_for_half_in_the_next_round() -> None:
    """§8.20."""
    world = slow_world(2, 4.0, round_deadline_s=3.0, late_are_used=True)
    world.run(200.0)
    world.check_ended("finished")
    late = {number: used[IDS[SLOW]] for number, used in used_by_round(world).items() if IDS[SLOW] in used}
    assert len(late) >= 3
    assert all(entry == (number - 1, 5) for number, entry in late.items())
    assert not world.misbehaved


@pytest.mark.parametrize("seed", range(25))
def test_late_updates_under_faults(seed: int) -> None:
    """§8.20, §8.16: loss, crashes and elections accuse nobody, use nothing twice, and every round is committed."""
    faults = Faults(
        loss=0.05, repeat=0.05, crash_rate_per_s=0.02, cut_rate_per_s=0.01, crash_at_outputs=True, until_s=60
    )
    world = slow_world(
        seed, 4.0, faults=faults, round_deadline_s=3.0, round_deadline_min_s=1.0, late_are_used=True, audit="full"
    )
    world.run(500.0)
    world.check_ended("finished")
    seen: set[tuple[str, int]] = set()
    for used in used_by_round(world).values():
        for node, (trained_for, _) in used.items():
            assert (node, trained_for) not in seen
            seen.add((node, trained_for))


def test_nothing_is_offered_once_the_run_has_ended() -> None:
    """§8.10: who holds the end answers an offer with the last commit, and that must not bring the offer again."""
    world = slow_world(0, 0.5, rounds=3, round_deadline_s=3.0, late_are_used=True)
    push = world._push
    offered: list[bool] = []

    def lose_its_last(at: float, target: int, event: Any, *rest: Any, **more: Any) -> None:
        message = event.message if isinstance(event, Received) else None
        ended = all(node.machine is not None and node.machine.ledger.has_ended for node in world.nodes)
        lost = (
            isinstance(message, OfferMessage) and event.peer == IDS[SLOW] and open_offer(message.offer).body.round == 3
        )
        if not lost or ended:
            push(at, target, event, *rest, **more)

    def look(source: int, _: NodeId, message: RunMessage) -> None:
        machine = world.nodes[source].machine
        if isinstance(message, OfferMessage) and machine is not None:
            offered.append(machine.ledger.has_ended)

    world._push, world.on_send = lose_its_last, look  # type: ignore[method-assign]
    world.run(100.0)
    world.check_ended("finished")
    assert offered
    assert not any(offered), (len(offered), sum(offered))


def test_an_adaptive_deadline_follows_the_middle_of_the_others() -> None:
    """§8.19: after the first round the slow one is waited for three times as long as the others need."""
    world = slow_world(3, 60.0, rounds=6, round_deadline_s=100.0, round_deadline_min_s=0.5)
    world.run(400.0)
    world.check_ended("finished")
    times = sorted({number: at for at, number in reversed(world.commit_times)}.items())
    lengths = [after - before for (_, before), (_, after) in itertools.pairwise(times)]
    assert lengths[0] > 50  # nothing was known yet
    assert max(lengths[1:-1]) < 5


@given(st.lists(st.floats(0.001, 1e4), max_size=9), st.floats(0.1, 100), st.floats(0, 1000))
def test_adaptive_deadline_stays_within_its_bounds(medians: list[float], least_s: float, more_s: float) -> None:
    """§8.19, against a twin that sorts by hand."""
    most_s = least_s + more_s
    deadline_s = adaptive_deadline_s(medians, least_s, most_s)
    assert least_s <= deadline_s <= most_s
    if medians:
        ordered = sorted(medians)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        assert deadline_s == pytest.approx(min(most_s, max(least_s, STRAGGLER_FACTOR * middle)))
    else:
        assert deadline_s == most_s


def test_pace_forgets_old_rounds_and_fixed_deadlines_do_not_adapt() -> None:
    """§8.19."""
    pace, fixed = Pace(1.0, 600.0), Pace(None, 600.0)
    assert pace.next_deadline_s() == 600.0
    for after_s in [100.0] * 5 + [1.0] * 5:
        pace.on_update(after_s)
        fixed.on_update(after_s)
        last_s = pace.next_deadline_s()
        assert fixed.next_deadline_s() == 600.0
    assert last_s == 3.0
    assert pace.next_deadline_s() == 3.0  # a round without updates says nothing about speed


# --- what may come late ------------------------------------------------------------------------------------------
ZERO, FIRST = hash_of(b"zero"), hash_of(b"first")


def offer(node: int, number: int, base: str) -> Offer:
    return Offer(
        run=RUN, node=IDS[node], round=number, base=base, update=hash_of(b"u"), update_bytes=1, samples=9,
        codec="fp32", metrics={},
    )  # fmt: skip


def entry(body: Offer, refused: str = "") -> UpdateEntry:
    raw = sign_note(KEYS[IDS.index(body.node)], body)  # type: ignore[arg-type]
    return UpdateEntry(offer=raw, weight=0 if refused else 9, refused=refused, reason="")


def round_one(*entries: UpdateEntry) -> Checkpoint:
    base: Checkpoint = World(1, 4).nodes[0].machine.ledger.zero.checkpoint  # type: ignore[union-attr]
    return base.model_copy(update={"round": 1, "previous": ZERO, "updates": entries})


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (offer(1, 1, ZERO), True),
        (offer(1, 1, FIRST), False),  # of another base
        (offer(1, 2, ZERO), False),  # in time
        (offer(1, 0, ZERO), False),  # two rounds late
        (offer(2, 1, ZERO), False),  # used already
        (offer(3, 1, ZERO), True),  # refused then, so not used
    ],
)
def test_what_fits_as_late(body: Offer, fits: bool) -> None:
    """§8.20."""
    base = round_one(entry(offer(2, 1, ZERO)), entry(offer(3, 1, ZERO), "not-finite"))
    assert may_come_late(body, base) is fits
    after = base.model_copy(update={"round": 2, "previous": FIRST, "updates": (entry(body),)})
    if fits or body.round != 1:
        check_late_updates(after, base)
    else:
        with pytest.raises(RemoteProtocolError):
            check_late_updates(after, base)
