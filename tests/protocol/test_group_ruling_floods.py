"""What many rulings cost, written by one member to keep everybody's nodes busy (docs/protocol.md §3.32)."""

from group_helpers import ANN, BOB, CAT, NOW, Person, say
from test_group_rulings import names, role
from test_group_state import CROWD

from protocol.group_log import GroupLog
from protocol.group_reducer import apply
from protocol.keys import Hash
from protocol.operation_kinds import MemberLeave, Payload, RunPropose
from protocol.operations import sign_operation
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

    monkeypatch.setattr("protocol.group_log.apply", counted)
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


def written_beside(
    log: GroupLog, author: Person, payload: Payload, *, after: Hash = NOTHING, claimed_at: int = NOW
) -> bytes:
    """An operation that rests on what `log` holds, and on its author's last one, and that does not go into it."""
    previous = after or log.tip_of(author.node_id)
    parents = (after,) if after else tuple(sorted(log.heads()))
    return sign_operation(
        author.key, payload, group=log.group, parents=parents, previous=previous, claimed_at=claimed_at
    )
