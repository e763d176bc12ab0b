"""Several addresses of one peer: which are tried when, and which one is used (docs/protocol.md §12.8)."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from node.network.dialling import STAGGER_S, Race

Script = dict[str, tuple[float, Exception | None]]  # of each address: how long it takes, and what comes of it


class Refusal(Exception):
    pass


class Dialler:
    """Ways by script. Notes when each address was tried, and what was thrown away or cancelled."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.tried: dict[str, float] = {}
        self.cancelled: list[str] = []
        self.discarded: list[str] = []
        self.race = Race(self.dial, self.discarded.append, lambda error: isinstance(error, Refusal))

    async def dial(self, address: str) -> str:
        self.tried[address] = trio.current_time() - self.begun
        seconds, error = self.script[address]
        try:
            await trio.sleep(seconds)  # virtual time: the network's
        except trio.Cancelled:
            self.cancelled.append(address)
            raise
        if error is not None:
            raise error
        return f"way by {address}"

    async def run(self, addresses: Sequence[str]) -> float:
        """Gives how long it took."""
        self.begun = trio.current_time()
        await self.race.run(addresses)
        return trio.current_time() - self.begun


def dialled(script: Script) -> tuple[Dialler, float]:
    taken = 0.0

    async def main() -> Dialler:
        nonlocal taken
        dialler = Dialler(script)
        with trio.fail_after(60):
            taken = await dialler.run(list(script))
        return dialler

    return trio.run(main, clock=MockClock(autojump_threshold=0)), taken


def test_the_first_that_answers_at_once_is_the_only_one_tried():
    """§12.8"""
    dialler, _ = dialled({"a": (0.1, None), "b": (0.1, None)})
    assert dialler.race.found == ("a", "way by a")
    assert list(dialler.tried) == ["a"]


def test_after_a_failure_the_next_is_tried_at_once():
    """§12.8: a library that dials only the first address would be done here."""
    dialler, taken = dialled({"a": (0.01, OSError("refused")), "b": (0.02, OSError("refused")), "c": (0.01, None)})
    assert dialler.race.found == ("c", "way by c")
    assert dialler.tried == pytest.approx({"a": 0.0, "b": 0.01, "c": 0.03})
    assert set(dialler.race.failures) == {"a", "b"}
    assert taken == pytest.approx(0.04)


def test_an_address_that_swallows_packets_holds_up_nobody():
    """§12.8: ten of them cost ten quarters of a second, not ten deadlines."""
    silent = {f"silent {number}": (1000.0, None) for number in range(10)}
    dialler, taken = dialled({**silent, "good": (0.05, None)})
    assert dialler.race.found == ("good", "way by good")
    assert taken == pytest.approx(10 * STAGGER_S + 0.05)
    assert sorted(dialler.cancelled) == sorted(silent)


def test_who_answers_late_may_still_win():
    """§12.8: the first to answer is used, not the last to be tried."""
    dialler, _ = dialled({"slow": (0.4, None), "slower": (5.0, None)})
    assert dialler.race.found == ("slow", "way by slow")
    assert dialler.cancelled == ["slower"]


def test_two_ways_at_one_moment_leave_one():
    """§12.8"""
    dialler, _ = dialled({"a": (2 * STAGGER_S, None), "b": (STAGGER_S, None)})
    assert dialler.race.found is not None
    assert len(dialler.discarded) + len(dialler.cancelled) == 1


def test_all_that_fail_are_named():
    """§12.8"""
    dialler, _ = dialled({"a": (0.1, OSError("one")), "b": (9.0, OSError("two"))})
    assert dialler.race.found is None
    assert {address: str(error) for address, error in dialler.race.failures.items()} == {"a": "one", "b": "two"}


def test_an_answer_that_ends_it_ends_it():
    """§12.8"""
    dialler, taken = dialled({"a": (0.1, Refusal()), "b": (0.1, None)})
    assert isinstance(dialler.race.final, Refusal)
    assert dialler.race.found is None
    assert taken == pytest.approx(0.1)
