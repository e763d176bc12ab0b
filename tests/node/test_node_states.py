"""Which comings and goings of nodes are put on record, and how much a node that flaps can cost."""

from node.record.node_states import (
    AWAY,
    EVENTS_PER_HOUR_MAX,
    FIRST_LOOKS_S,
    HERE,
    STARTED,
    STOPPED,
    Entry,
    NodeStates,
    start_entry,
)

START = 1_000_000.0
LATER = START + FIRST_LOOKS_S + 1


def test_each_change_is_told_once_with_how_long_it_was_otherwise() -> None:
    states = NodeStates({}, START)
    assert states.look([("a", True), ("b", False)], LATER) == [Entry("a", HERE, "")]
    assert states.look([("a", True), ("b", False)], LATER + 5) == []
    assert states.look([("a", False)], LATER + 7200) == [Entry("a", AWAY, "after 2 h")]
    assert states.look([("a", True)], LATER + 7210) == [Entry("a", HERE, "after 10 s")]


def test_what_was_recorded_before_a_restart_still_counts_and_connecting_takes_its_time() -> None:
    states = NodeStates({"a": (HERE, START - 60), "b": (HERE, START - 60), "c": (AWAY, START - 60)}, START)
    assert states.look([("a", False), ("b", False), ("c", False)], START + 5) == []
    assert states.look([("a", True), ("b", False), ("c", True)], START + 20) == [Entry("c", HERE, "after 1 min")]
    assert states.look([("a", True), ("b", False)], LATER) == [Entry("b", AWAY, "after 2 min")]


def test_a_node_that_flaps_costs_a_bounded_number_of_rows_and_ends_in_its_true_state() -> None:
    states = NodeStates({}, START)
    entries = []
    for look in range(700):  # 58 minutes, every five seconds another state
        entries += states.look([("a", look % 2 == 0), ("calm", True)], LATER + 5 * look)
    assert len([entry for entry in entries if entry.node == "a"]) == EVENTS_PER_HOUR_MAX
    assert [entry for entry in entries if entry.node == "calm"] == [Entry("calm", HERE, "")]
    assert entries[-1].state == AWAY
    settled = states.look([("a", True)], LATER + 3600)
    assert [entry.state for entry in settled] == [HERE]


def test_our_own_start_says_whether_the_end_before_was_in_order() -> None:
    assert start_entry("me", {}) == Entry("me", STARTED, "")
    assert start_entry("me", {"me": (STOPPED, START)}) == Entry("me", STARTED, "")
    assert start_entry("me", {"me": (STARTED, START)}) == Entry("me", STARTED, "had not been stopped in order")
