"""What many rulings cost, written by one member to keep everybody's nodes busy (docs/protocol.md §3.32)."""

from group_helpers import ANN, BOB, CAT, DAN, EVE, NOW, Person, admission, post, say
from test_group_rulings import names, role
from test_group_state import CROWD

from protocol.group.log import GroupLog
from protocol.group.operation_kinds import MemberLeave, Payload, RunPropose
from protocol.group.operations import sign_operation
from protocol.group.reducer import apply
from protocol.keys import Hash
from protocol.wire import hash_of

NOTHING = Hash("")


def test_thousands_of_rulings_by_one_member_freeze_nobody(monkeypatch):
    """§3.32: departures of an observer that name one past, and a chain of void rulings beside the others' operations:
    the log is folded again a few times for all of them, not once or more for each."""
    steps = 0

    def counted(*arguments, **more):
        nonlocal steps
        steps += 1
        return apply(*arguments, **more)

    monkeypatch.setattr("protocol.group.log.apply", counted)
    count = 1000
    log = CROWD.copy()
    before = log.copy()
    departures = [written_beside(before, CAT, MemberLeave(), claimed_at=NOW + number) for number in range(count)]
    say(log, ANN, RunPropose(manifest=b"m"))
    for departure in departures:
        log.add(departure)
    assert names(log.state()) == ["ann", "bob", "dan"]
    assert sorted(set(log.state().refused.values())) == ["senior-stays"]
    assert steps < 8 * count
    steps, previous = 0, written_beside(before, BOB, role(CAT, "admin"))
    for _ in range(count):
        log.add(previous)
        previous = written_beside(before, BOB, role(CAT, "admin"), after=hash_of(previous))
    assert [member.role for member in log.state().members.values()] == ["admin", "member", "admin"]
    assert steps < 8 * count


def test_thousands_of_rulings_that_fall_freeze_nobody(monkeypatch):
    """§3.48: departures of a joiner who was never in, of many such joiners, and changes of its role by an admin; all of
    them stand before the fold. They fall together, and what comes after them costs as little as ever."""
    steps = 0

    def counted(*arguments, **more):
        nonlocal steps
        steps += 1
        return apply(*arguments, **more)

    monkeypatch.setattr("protocol.group.log.apply", counted)
    base = CROWD.copy()
    invite_id, seed = post(base, uses=1)
    here, there = base.copy(), base.copy()
    say(here, BOB, admission(here, EVE, invite_id, seed, by=BOB))
    say(there, DAN, RunPropose(manifest=b"so that this comes later"))
    joiners = [Person(f"joiner-{number}") for number in range(100)]
    sides = [there.copy() for _ in joiners]
    flood: list[bytes] = []
    for joiner, side in zip(joiners, sides, strict=True):
        say(side, BOB, admission(side, joiner, invite_id, seed, by=BOB))
        flood += [operation.raw for operation in side]
        flood += [written_beside(side, joiner, MemberLeave(), claimed_at=NOW + number) for number in range(3)]
    flood += [written_beside(sides[0], joiners[0], MemberLeave(), claimed_at=NOW - number) for number in range(300)]
    flood += [
        written_beside(sides[1], DAN, role(joiners[1], "observer"), claimed_at=NOW + number) for number in range(300)
    ]
    steps = 0
    for raw in flood:
        here.add(raw)
    assert names(here.state()) == ["ann", "bob", "cat", "dan", "eve"]
    assert steps < 8 * len(flood)
    steps = 0
    say(here, ANN, RunPropose(manifest=b"m"))
    assert here.state().refused
    assert steps < 10
    say(here, ANN, role(CAT, "member"))
    steps = 0
    assert names(here.state()) == ["ann", "bob", "cat", "dan", "eve"]
    assert steps < 8 * len(flood)


def written_beside(
    log: GroupLog, author: Person, payload: Payload, *, after: Hash = NOTHING, claimed_at: int = NOW
) -> bytes:
    """An operation that rests on what `log` holds, and on its author's last one, and that does not go into it."""
    previous = after or log.tip_of(author.node_id)
    parents = (after,) if after else tuple(sorted(log.heads()))
    return sign_operation(
        author.key, payload, group=log.group, parents=parents, previous=previous, claimed_at=claimed_at
    )
