"""What is held against a peer, when the door is shut for that, and how much strangers get (docs/protocol.md §4)."""

from contextlib import ExitStack

import pytest

from node.network import conduct as conduct_module
from node.network.conduct import WEIGHTS, Conduct
from node.network.door import Door, EntranceBounds, Places, source_of
from node.seams import StreamClosed, TrafficCounters, Unreachable
from protocol.errors import Refused
from protocol.keys import NodeId, node_id_of
from protocol.limits import (
    ENTRANCE_ATTEMPTS_PER_MINUTE,
    ENTRANCE_PEER_ATTEMPTS_PER_MINUTE,
    ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE,
    ENTRANCE_SOURCE_STREAMS_MAX,
    ENTRANCE_STREAMS_MAX,
    FAULT_FORGIVEN_PER_S,
    FAULT_SCORE_MAX,
    PEER_CONNECTIONS_BURST,
    PEER_CONNECTIONS_MAX,
    PEER_CONNECTIONS_PER_S,
    PEER_CONTROL_BYTES_BURST,
    PEER_FRAMES_BURST,
    PEER_FRAMES_PER_S,
    PEER_MEMBERSHIP_BYTES_BURST,
    PEER_MEMBERSHIP_BYTES_PER_S,
    REFUSALS_FORGOTTEN_S,
    REFUSE_FIRST_S,
    REFUSE_LAST_S,
)

BOB, CAT = (node_id_of(bytes(31) + bytes([number])) for number in (1, 2))
TO_REFUSAL = int(FAULT_SCORE_MAX / WEIGHTS["malformed"])


class World:
    """A clock that is put forward, and the conduct of peers under it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.conduct = Conduct(lambda: self.now)
        self.hung_up: list[NodeId] = []
        self.conduct.on_refusal = self.hung_up.append

    def until_refused(self, peer: NodeId = BOB) -> int:
        faults = 0
        while not self.conduct.refuses(peer):
            self.conduct.fault(peer, "malformed", "it is no message")
            faults += 1
        return faults


def test_faults_add_up_to_a_refusal_that_is_told_and_ends(caplog: pytest.LogCaptureFixture):
    """§4.18, §4.19"""
    world = World()
    assert world.until_refused() == TO_REFUSAL
    assert world.hung_up == [BOB]
    assert "malformed: it is no message" in world.conduct.trouble(BOB)
    assert not world.conduct.refuses(CAT)
    assert world.conduct.trouble(CAT) == ""
    assert len([line for line in caplog.messages if "breaks the protocol" in line]) == 1
    world.now += REFUSE_FIRST_S - 1
    assert world.conduct.refuses(BOB)
    world.now += 2
    assert not world.conduct.refuses(BOB)
    assert world.conduct.trouble(BOB) == ""


def test_faults_far_apart_are_forgiven():
    """§4.18"""
    world = World()
    for _ in range(20 * TO_REFUSAL):
        world.conduct.fault(BOB, "malformed", "now and then")
        world.now += WEIGHTS["malformed"] / FAULT_FORGIVEN_PER_S
    assert not world.hung_up


def test_no_single_fault_refuses_anybody():
    """§4.18: whatever it is, once may be a slip."""
    for fault, weight in WEIGHTS.items():
        assert weight < FAULT_SCORE_MAX, fault


def test_who_goes_on_is_refused_ever_longer_and_after_a_good_day_begins_anew():
    """§4.19"""
    world = World()
    lengths = []
    for _ in range(9):
        world.until_refused()
        began = world.now
        while world.conduct.refuses(BOB):
            world.now += 1
        lengths.append(world.now - began)
    assert lengths[:3] == [REFUSE_FIRST_S, 2 * REFUSE_FIRST_S, 4 * REFUSE_FIRST_S]
    assert max(lengths) == lengths[-1] == REFUSE_LAST_S
    world.now += REFUSALS_FORGOTTEN_S + 1
    world.until_refused()
    world.now += REFUSE_FIRST_S
    assert not world.conduct.refuses(BOB)


def test_faults_while_a_peer_is_refused_do_not_prolong_it():
    """§4.19: what was under way when it was hung up on comes to an end too."""
    world = World()
    world.until_refused()
    for _ in range(3 * TO_REFUSAL):
        world.conduct.fault(BOB, "malformed", "an echo")
    assert world.hung_up == [BOB]


def test_memory_of_conduct_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """§4.18"""
    monkeypatch.setattr(conduct_module, "PEERS_MAX", 10)
    world = World()
    for number in range(100):
        peer = node_id_of(number.to_bytes(32, "big"))
        world.conduct.fault(peer, "malformed", "x")
        world.conduct.heard(peer, 10, is_of_run=True)
    assert len(world.conduct._standings) == len(world.conduct._frames._of) == 10


def test_control_messages_are_read_more_slowly_beyond_the_rate_and_a_flood_is_a_fault():
    """§4.16"""
    world = World()
    assert not any(world.conduct.heard(BOB, 100, is_of_run=True) for _ in range(PEER_FRAMES_BURST))
    pause = world.conduct.heard(BOB, 100, is_of_run=True)
    assert pause == pytest.approx(1 / PEER_FRAMES_PER_S)
    world.now += 10
    assert not any(world.conduct.heard(BOB, 100, is_of_run=True) for _ in range(10 * PEER_FRAMES_PER_S - 1))
    floods = 0
    while not world.conduct.refuses(BOB):  # it goes on and on, as fast as we let it
        world.now += world.conduct.heard(BOB, 100, is_of_run=True)
        floods += 1
        assert floods < 100 * PEER_FRAMES_BURST
    assert floods > 3 * PEER_FRAMES_BURST


def test_control_messages_have_a_rate_of_bytes_too():
    """§4.16"""
    world = World()
    size = PEER_CONTROL_BYTES_BURST // 64
    assert not any(world.conduct.heard(BOB, size, is_of_run=True) for _ in range(64))
    assert world.conduct.heard(BOB, size, is_of_run=True) > 0.1


def test_what_is_not_of_a_run_is_dear_and_has_a_rate_of_its_own():
    """§4.16: below every other rate it could keep a core busy with signatures. What a run says is not held up by it."""
    world = World()
    size = PEER_MEMBERSHIP_BYTES_BURST // 64
    assert not any(world.conduct.heard(BOB, size, is_of_run=False) for _ in range(64))
    assert world.conduct.heard(BOB, size, is_of_run=False) == pytest.approx(size / PEER_MEMBERSHIP_BYTES_PER_S)
    assert not world.conduct.heard(BOB, size, is_of_run=True)
    assert not world.conduct.heard(CAT, size, is_of_run=False)
    world.now += 3600
    for _ in range(600):  # a node of a large group, its siblings and its logs
        assert not world.conduct.heard(BOB, 64 * 1024, is_of_run=False)
        world.now += 1


def test_what_an_honest_run_says_is_never_slowed_down():
    """§4.16: an aggregator of thirty hears some ten messages a second from each, and 3 MiB once in a while."""
    world = World()
    for second in range(3600):
        for _ in range(10):
            assert not world.conduct.heard(BOB, 2_000, is_of_run=True)
        if second % 2 == 0:
            assert not world.conduct.heard(BOB, 3 * 1024 * 1024, is_of_run=True)
        world.now += 1


# --- the door ----------------------------------------------------------------------------------------------------
def test_the_door_is_shut_to_who_is_refused_and_nothing_of_its_is_handed_over():
    """§4.14, §4.19"""
    now = 0.0
    door = Door(lambda: now)
    door.set(lambda peer: peer == BOB)
    assert door.enter(BOB)
    assert not door.enter(CAT)
    for _ in range(TO_REFUSAL):
        door.conduct.fault(BOB, "malformed", "x")
    assert not door.admits(BOB)
    assert not door.knock(BOB)
    with pytest.raises(StreamClosed):
        door.handed_over(BOB, "control", 10, came_in=True)
    with pytest.raises(Unreachable, match="broke the protocol"):
        door.check_may_dial(BOB)
    assert door.counters.refused_at_door == 2
    now = REFUSE_FIRST_S
    assert door.knock(BOB)
    door.check_may_dial(BOB)


def test_who_comes_and_goes_without_end_is_let_in_now_and_then():
    """§4.15: each time costs much more than the handshake. It is no fault, and a bad line is let in again soon."""
    now = [0.0]
    door = Door(lambda: now[0])
    door.set(lambda peer: True)

    def come_and_go(peer: NodeId) -> bool:
        entered = door.enter(peer)
        if entered:
            door.leave(peer)
        return entered

    assert sum(come_and_go(BOB) for _ in range(1000)) == PEER_CONNECTIONS_BURST
    assert come_and_go(CAT)
    now[0] += 10
    assert sum(come_and_go(BOB) for _ in range(1000)) == 10 * PEER_CONNECTIONS_PER_S
    assert not door.conduct.refuses(BOB)
    for number in range(2 * conduct_module.PEERS_MAX):
        come_and_go(NodeId(f"12D3KooW{number}"))
    assert len(door._entries._of) == conduct_module.PEERS_MAX


def test_a_peer_has_so_many_connections_at_once():
    """§4.15"""
    door = Door(lambda: 0.0)
    door.set(lambda peer: True)
    assert [door.enter(BOB) for _ in range(PEER_CONNECTIONS_MAX + 1)] == [*[True] * PEER_CONNECTIONS_MAX, False]
    assert door.enter(CAT)
    door.leave(BOB)
    assert door.enter(BOB)
    assert not door.conduct.refuses(BOB)
    while not door.conduct.refuses(BOB):
        assert not door.enter(BOB)


# --- the entrance ------------------------------------------------------------------------------------------------
def test_addresses_are_counted_by_what_their_holder_has_of_them():
    """§4.17"""
    assert source_of("192.0.2.7") == "192.0.2.7" != source_of("192.0.2.8")
    assert source_of("2001:db8:1:2::3") == source_of("2001:db8:1:2:ffff::9") != source_of("2001:db8:1:3::3")
    assert source_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert source_of("fe80::1%eth0") == source_of("fe80::2%eth0")
    assert source_of("not an address") == "not an address"


class Doorstep:
    def __init__(self) -> None:
        self.now = 100.0
        self.counters = TrafficCounters()
        self.bounds = EntranceBounds(self.counters, lambda: self.now)


def test_a_flood_from_one_address_leaves_room_for_others():
    """§4.17: it is turned away, and costs the others nothing."""
    step = Doorstep()
    flood = [step.bounds.attempt("192.0.2.1") for _ in range(10 * ENTRANCE_ATTEMPTS_PER_MINUTE)]
    assert sum(flood) == ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE
    assert step.counters.refused_at_door == len(flood) - ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE
    assert step.bounds.attempt("192.0.2.2")
    step.now += 60.0
    assert step.bounds.attempt("192.0.2.1")


def test_all_strangers_together_have_so_many_attempts():
    """§4.17"""
    step = Doorstep()
    came = [step.bounds.attempt(f"192.0.2.{number % 250}") for number in range(3 * ENTRANCE_ATTEMPTS_PER_MINUTE)]
    assert sum(came) == ENTRANCE_ATTEMPTS_PER_MINUTE
    assert len(step.bounds._of_source._attempts) <= ENTRANCE_ATTEMPTS_PER_MINUTE
    step.now += 60.0
    assert step.bounds.attempt("192.0.2.9")


def test_one_node_has_so_many_attempts_wherever_it_dials_from():
    """§4.17"""
    step = Doorstep()
    assert sum(step.bounds.attempt_of(BOB) for _ in range(100)) == ENTRANCE_PEER_ATTEMPTS_PER_MINUTE
    assert step.bounds.attempt_of(CAT)
    step.now += 60.0
    assert step.bounds.attempt_of(BOB)


def test_one_address_does_not_take_all_places_at_the_entrance():
    """§4.17"""
    step = Doorstep()
    with ExitStack() as held:
        for _ in range(ENTRANCE_SOURCE_STREAMS_MAX):
            held.enter_context(step.bounds.conversation("192.0.2.1"))
        with pytest.raises(Refused), step.bounds.conversation("192.0.2.1"):
            pass
        for number in range(ENTRANCE_STREAMS_MAX - ENTRANCE_SOURCE_STREAMS_MAX):
            held.enter_context(step.bounds.conversation(f"192.0.2.{2 + number}"))
        with pytest.raises(Refused), step.bounds.conversation("192.0.2.99"):
            pass
        assert step.counters.refused_at_door == 2
    with step.bounds.conversation("192.0.2.1"):
        pass


def test_places_are_given_back_whatever_happens():
    """§4.17"""
    places = Places(1, 1)

    def break_in_it() -> None:
        with places.place("a") as held:
            assert held
            raise ValueError("it broke")

    with pytest.raises(ValueError, match="it broke"):
        break_in_it()
    with places.place("b") as held:
        assert held
        with places.place("c") as none_left:
            assert not none_left
