"""Presence (docs/protocol.md §5.5, §5.6)."""

import pytest
from group_helpers import ANN, BOB, EVE, NOW, Person, address_record, admit, new_group

from protocol.errors import Refused, RemoteProtocolError
from protocol.group.presence import Capacity, Presence, PresenceBook, announce, interval_s, stale_after_s
from protocol.keys import GroupId
from protocol.limits import PRESENCE_BYTES_MAX, PRESENCE_S, PRESENCE_STALE_S

LOG = new_group()
admit(LOG, BOB)
STATE = LOG.state()
CAPACITY = Capacity(
    cpu_cores=8, memory_bytes=2**34, memory_free_bytes=2**33, disk_free_bytes=2**40, gpus=("H100",), load_1m=0.5
)


def presence(who: Person = BOB, **changes: object) -> Presence:
    fields: dict[str, object] = {
        "node_id": who.node_id,
        "group": LOG.group,
        "name": f"{who.name}-node",
        "version": "0.1.0",
        "where": address_record(who),
        "capacity": CAPACITY,
        "runs": (),
        "data_sets": 1,
        "announced_at": NOW,
        "sequence": 5,
    }
    return Presence(**{**fields, **changes})


def test_an_announcement_is_heard():
    """§5.6"""
    book = PresenceBook(LOG.group)
    assert book.hear(announce(BOB.key, presence()), STATE, now=10.0) == presence()
    heard = book.last(BOB.node_id)
    assert heard is not None
    assert (heard.presence, heard.heard_at) == (presence(), 10.0)
    assert book.last(ANN.node_id) is None


@pytest.mark.parametrize("sequence", [0, 4, 5])
def test_a_replay_is_refused(sequence: int):
    """§5.6: only a higher sequence counts, whatever time it claims."""
    book = PresenceBook(LOG.group)
    book.hear(announce(BOB.key, presence()), STATE, now=1.0)
    old = announce(BOB.key, presence(sequence=sequence, announced_at=NOW + 99))
    with pytest.raises(Refused, match="not newer"):
        book.hear(old, STATE, now=2.0)
    heard = book.last(BOB.node_id)
    assert heard is not None
    assert heard.heard_at == 1.0
    book.hear(announce(BOB.key, presence(sequence=6, announced_at=1)), STATE, now=3.0)


def test_a_node_whose_clock_was_put_right_is_heard():
    """§5.6, §12.2: its record's sequence outlives its restart; its own announcements begin at the clock anew."""
    book = PresenceBook(LOG.group)
    ahead = announce(BOB.key, presence(where=address_record(BOB, sequence=9_000), sequence=9_500))
    book.hear(ahead, STATE, now=1.0)
    book.hear(announce(BOB.key, presence(where=address_record(BOB, sequence=9_001), sequence=9_002)), STATE, now=2.0)
    with pytest.raises(Refused, match="not newer"):
        book.hear(ahead, STATE, now=3.0)


def test_only_nodes_of_the_group_are_listened_to():
    """§5.6"""
    book = PresenceBook(LOG.group)
    with pytest.raises(Refused, match="no member's"):
        book.hear(announce(EVE.key, presence(EVE)), STATE, now=1.0)
    assert book.last(EVE.node_id) is None


def test_nobody_announces_another_node_or_group():
    """§5.6"""
    book = PresenceBook(LOG.group)
    with pytest.raises(RemoteProtocolError, match="announced another"):
        book.hear(announce(ANN.key, presence(BOB)), STATE, now=1.0)
    with pytest.raises(RemoteProtocolError, match="announced another"):
        book.hear(announce(BOB.key, presence(group=GroupId("0" * 64))), STATE, now=1.0)


def test_nobody_announces_where_another_node_is():
    """§12.3: not even by a record that this node has signed itself."""
    for where in (address_record(ANN), address_record(BOB, key=EVE.key)):
        with pytest.raises(RemoteProtocolError):
            PresenceBook(LOG.group).hear(announce(BOB.key, presence(where=where)), STATE, now=0.0)


def test_stale_ones_and_those_who_left_are_not_present():
    """§5.6: by the hearer's own clock."""
    book = PresenceBook(LOG.group)
    book.hear(announce(BOB.key, presence()), STATE, now=0.0)
    book.hear(announce(ANN.key, presence(ANN)), STATE, now=100.0)
    assert [entry.node_id for entry in book.present(STATE, now=PRESENCE_STALE_S)] == [BOB.node_id, ANN.node_id]
    assert [entry.node_id for entry in book.present(STATE, now=PRESENCE_STALE_S + 1)] == [ANN.node_id]
    alone = new_group().state()
    assert [entry.node_id for entry in book.present(alone, now=0.0)] == [ANN.node_id]
    assert book.last(BOB.node_id) is None


@pytest.mark.parametrize(("nodes", "seconds"), [(1, 60), (2, 60), (50, 60), (100, 120), (1000, 1200)])
def test_the_interval_grows_with_the_group(nodes: int, seconds: float):
    """§5.5: what a node takes in, in announcements a second, does not grow beyond that of 50 nodes."""
    assert interval_s(nodes) == seconds
    assert nodes / interval_s(nodes) <= 50 / PRESENCE_S
    assert stale_after_s(nodes) > 3 * interval_s(nodes)


@pytest.mark.parametrize("load", [float("nan"), float("inf"), -1.0])
def test_impossible_figures_are_refused(load: float):
    """§1.2: a peer's numbers go into tables and sums."""
    capacity = CAPACITY.model_copy(update={"load_1m": load})
    with pytest.raises(RemoteProtocolError):
        PresenceBook(LOG.group).hear(
            announce(BOB.key, presence(capacity=CAPACITY).model_copy(update={"capacity": capacity})), STATE, now=0.0
        )


def test_the_longest_announcement_fits():
    """§5.6: sixteen addresses of each kind, and as many runs as are shown."""
    longest = tuple(f"/dns4/{'x' * 150}/tcp/{port}" for port in range(4000, 4016))
    runs = tuple(f"{number:064x}" for number in range(64))
    raw = announce(BOB.key, presence(where=address_record(BOB, longest, longest), runs=runs, name="n" * 80))
    assert len(raw) < PRESENCE_BYTES_MAX
    PresenceBook(LOG.group).hear(raw, STATE, now=0.0)
