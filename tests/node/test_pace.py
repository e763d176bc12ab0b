"""Limits of bulk transfer: exact over time, fair between peers, nothing given away when somebody leaves the line."""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from node.network.bulk.pace import BURST_S, Limit, Pace
from protocol.keys import NodeId

ANN, BEN, CAT = NodeId("ann"), NodeId("ben"), NodeId("cat")
RATE = 1000.0  # bytes per second
Granted = list[tuple[float, NodeId, int]]


def in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    """What waits for ever ends after a day, at once."""

    async def until_tomorrow() -> None:
        with trio.fail_after(86_400):
            await main()

    trio.run(until_tomorrow, clock=trio.testing.MockClock(autojump_threshold=0))


def asked_at_once(demands: list[tuple[NodeId, int]], rate: float = RATE) -> Granted:
    """What is granted when, of demands that all stand in line from the start, in this order."""
    granted: Granted = []

    async def take(limit: Limit, peer: NodeId, size: int) -> None:
        await limit.take(peer, size)
        granted.append((trio.current_time(), peer, size))

    async def main() -> None:
        limit = Limit(rate)
        began = trio.current_time()
        await limit.take(NodeId("before"), int(RATE))  # the line is taken, so the others have to wait
        async with trio.open_nursery() as nursery:
            for peer, size in demands:
                nursery.start_soon(take, limit, peer, size)
                await trio.testing.wait_all_tasks_blocked()
        assert not limit._waiting
        granted[:] = [(when - began, peer, size) for when, peer, size in granted]

    in_virtual_time(main)
    return granted


def test_no_limit_is_not_even_a_checkpoint() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await Pace().up.take(ANN, 10**12)
            await Pace().down.take(ANN, 10**12)
        assert not scope.cancelled_caught

    trio.run(main)


@given(
    st.lists(st.tuples(st.sampled_from([ANN, BEN, CAT]), st.integers(1, 5000)), min_size=1, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_peers_that_wait_get_alike_and_the_rate_is_exact(demands: list[tuple[NodeId, int]]) -> None:
    granted = asked_at_once(demands)
    assert sorted((peer, size) for _, peer, size in granted) == sorted(demands)
    left = {peer: sum(1 for other, _ in demands if other == peer) for peer, _ in demands}
    had: dict[NodeId, int] = defaultdict(int)
    so_far = RATE - RATE * BURST_S  # the first of all makes use of the time before it
    for when, peer, size in granted:
        assert when == pytest.approx(so_far / RATE)
        so_far += size
        had[peer] += size
        left[peer] -= 1
        waiting = [other for other in left if left[other]]
        biggest = max(size for _, size in demands)
        assert all(abs(had[one] - had[two]) <= biggest for one in waiting for two in waiting)


def test_within_one_peer_the_order_is_that_of_asking() -> None:
    sizes = [5, 900, 20, 7, 300]
    assert [size for _, _, size in asked_at_once([(ANN, size) for size in sizes])] == sizes


def test_equal_demands_take_turns_however_many_one_peer_has() -> None:
    granted = asked_at_once([(ANN, 500)] * 6 + [(BEN, 500)] * 3 + [(CAT, 500)] * 3)
    assert [peer for _, peer, _ in granted] == [ANN, BEN, CAT] * 3 + [ANN] * 3


def rounds_of(limit: Limit, peer: NodeId, size: int, seconds: float, had: dict[NodeId, int]):  # type: ignore[no-untyped-def]
    async def work() -> None:
        with trio.move_on_after(seconds):
            while True:
                await limit.take(peer, size)
                had[peer] += size
                await trio.sleep(0)  # virtual time passes

    return work


def test_a_peer_that_asks_again_only_when_it_was_served_keeps_its_share() -> None:
    """A stream is answered one request after the other: it is out of the line for a moment after each."""

    async def main() -> None:
        limit, had = Limit(RATE), {ANN: 0, BEN: 0}
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(rounds_of(limit, ANN, 100, 20.0, had))
            nursery.start_soon(rounds_of(limit, BEN, 100, 20.0, had))
        assert sum(had.values()) == pytest.approx(20 * RATE, abs=RATE * BURST_S + 200)
        assert had[ANN] > 0.45 * 20 * RATE

    in_virtual_time(main)


def test_having_been_idle_or_greedy_gives_no_credit_and_no_debt() -> None:
    async def main() -> None:
        limit, had = Limit(RATE), {ANN: 0, BEN: 0}
        await rounds_of(limit, ANN, 100, 30.0, had)()  # alone, long
        had = {ANN: 0, BEN: 0}
        async with trio.open_nursery() as nursery:
            for peer in (ANN, ANN, BEN, BEN):
                nursery.start_soon(rounds_of(limit, peer, 100, 10.0, had))
        assert abs(had[ANN] - had[BEN]) <= 200

    in_virtual_time(main)


def test_unused_time_is_made_up_for_only_a_little() -> None:
    async def main() -> None:
        limit = Limit(RATE)
        await limit.take(ANN, 1)
        await trio.sleep(1000)  # virtual time passes
        had = {ANN: 0}
        await rounds_of(limit, ANN, 10, 1.0, had)()
        assert RATE <= had[ANN] <= RATE * (1 + BURST_S) + 10

    in_virtual_time(main)


def test_tasks_that_wake_late_do_not_slow_the_rate() -> None:
    async def main() -> None:
        limit, began = Limit(RATE), trio.current_time()
        for _ in range(200):  # each waits as long as the line needs for it, and none of that is waited for once more
            await limit.take(ANN, 100)
            await trio.sleep(BURST_S)  # virtual time passes
        assert trio.current_time() - began == pytest.approx(20.0, abs=0.2)

    in_virtual_time(main)


@pytest.mark.parametrize("leaver", [0, 1, 2])
def test_who_is_cancelled_while_waiting_took_nothing(leaver: int) -> None:
    """Neither of the line, nor of its peer's share; and whoever is next is not forgotten."""

    async def main() -> None:
        limit, order = Limit(RATE), []
        began = trio.current_time()
        await limit.take(CAT, 1000)
        scopes = [trio.CancelScope() for _ in range(3)]

        async def take(scope: trio.CancelScope, peer: NodeId, size: int) -> None:
            with scope:
                await limit.take(peer, size)
                order.append((peer, round(trio.current_time() - began, 6)))

        async with trio.open_nursery() as nursery:
            for scope, peer in zip(scopes, [ANN, ANN, BEN], strict=True):
                nursery.start_soon(take, scope, peer, 500)
                await trio.testing.wait_all_tasks_blocked()
            scopes[leaver].cancel()
        first = 1.0 - BURST_S
        expected = [ANN, ANN] if leaver == 2 else [ANN, BEN]
        assert order == [(expected[0], first), (expected[1], first + 0.5)]
        assert not limit._waiting

    in_virtual_time(main)


def test_what_was_granted_is_not_lost_to_a_cancellation_at_the_same_moment() -> None:
    """The one that sleeps until the line is free is cancelled just then: it goes, or the next one goes in its place."""

    async def main() -> None:
        limit, went = Limit(RATE), []
        began = trio.current_time()
        await limit.take(CAT, 1000)

        async def take(peer: NodeId) -> None:
            await limit.take(peer, 500)
            went.append((peer, trio.current_time() - began))

        async with trio.open_nursery() as nursery:

            async def short_of_time() -> None:
                with trio.move_on_at(began + 1.0 - BURST_S):
                    await take(ANN)

            nursery.start_soon(short_of_time)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(take, BEN)
        times = dict(went)
        assert times[BEN] == pytest.approx(1.0 - BURST_S + (0.5 if ANN in times else 0.0))

    in_virtual_time(main)


@pytest.mark.parametrize(
    ("change_to", "second_at"),
    [(2 * RATE, 0.4 + 0.25), (RATE / 2, 0.4 + 1.0), (None, 0.4)],
    ids=["faster", "slower", "lifted"],
)
def test_a_change_counts_for_those_who_wait(change_to: float | None, second_at: float) -> None:
    """1,000 bytes at 1,000 a second, 100 of them made up for; after 0.4 s half a second of them is still to go."""

    async def main() -> None:
        pace, began = Pace(RATE, None), trio.current_time()
        await pace.up.take(ANN, 1000)
        went_at = math.nan

        async def second() -> None:
            nonlocal went_at
            await pace.up.take(ANN, 1)
            went_at = trio.current_time() - began

        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            await trio.sleep(0.4)  # virtual time passes
            pace.set_limits(change_to, 5.0)
        assert went_at == pytest.approx(second_at)
        assert (pace.up.bytes_per_s, pace.down.bytes_per_s) == (change_to, 5.0)

    in_virtual_time(main)


def test_peers_that_have_gone_are_forgotten() -> None:
    async def main() -> None:
        limit = Limit(1e9)
        for number in range(200):
            await limit.take(NodeId(f"peer-{number}"), 1000)
        assert len(limit._granted) <= 2

    in_virtual_time(main)
