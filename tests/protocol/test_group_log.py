"""The log as a graph: what enters, what waits, in which order it stands (docs/protocol.md §2)."""

import pytest
from group_helpers import ANN, BOB, CAT, EVE, NOW, Person, add_all, admit, bind, new_group, say, unknown_operation

from protocol.errors import RemoteProtocolError
from protocol.group import waiting_room
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import NodeBind, Payload, RunPropose
from protocol.group.operations import OpenOperation, open_operation, sign_operation
from protocol.group.reducer import NodeTooOld
from protocol.keys import Hash
from protocol.limits import OPERATION_PARENTS_MAX


def propose(text: str) -> RunPropose:
    return RunPropose(manifest=text.encode())


def place(
    log: GroupLog, author: Person, payload: Payload, parents: tuple[OpenOperation, ...], previous: Hash | str
) -> bytes:
    """An operation at a place of our choosing, which no rule of writing holds back."""
    return sign_operation(
        author.key,
        payload,
        group=log.group,
        parents=tuple(sorted(parent.hash for parent in parents)),
        previous=Hash(previous),
        claimed_at=NOW,
    )


def test_operations_are_linked_to_all_heads_and_their_authors_chain():
    """§2.3: parents are the heads; previous is the author's last."""
    log = new_group()
    other = log.copy()
    first, second = say(log, ANN, propose("1")), say(log, ANN, propose("2"))
    aside = place(other, ANN, propose("aside"), (other[other.group],), other.group)
    log.add(aside)
    assert set(log.heads()) == {second.hash, open_operation(aside).hash}
    last = say(log, ANN, propose("3"))
    assert set(last.body.parents) == {second.hash, open_operation(aside).hash}
    assert (first.body.previous, second.body.previous, last.body.previous) == (log.group, first.hash, second.hash)
    assert log.heads() == (last.hash,)


def test_many_heads_are_named_over_time():
    """§2.3: of more heads than an operation may name, it names the deepest; a newcomer's rests on its admission."""
    log = new_group()
    before = log.copy()
    admit(log, BOB)
    binding = log.bindings_of(BOB.node_id)[0]
    deep = say(log, ANN, propose("deep"))
    for number in range(100):
        chain = before.copy()
        for step in range(4):
            say(chain, ANN, propose(f"{number} {step}"))
        add_all(log, chain)
    assert len(log.heads()) == 101
    first = say(log, BOB, propose("hello"))
    assert len(first.body.parents) == OPERATION_PARENTS_MAX
    assert binding in first.body.parents
    assert deep.hash not in first.body.parents
    say(log, BOB, propose("again"))
    assert len(log.heads()) < 101


def test_what_rests_on_something_missing_waits_for_it():
    """§2.4: it enters after all that it rests on, and wakes what waits for it."""
    log, late = new_group(), new_group()
    operations = [say(log, ANN, propose(str(number))) for number in range(5)]
    for operation in reversed(operations[1:]):
        assert late.add(operation.raw).missing == operation.dependencies
        assert late.add(operation.raw).missing == operation.dependencies
    assert len(late) == 1
    assert late.missing() == (operations[0].hash,)
    addition = late.add(operations[0].raw)
    assert addition.added == tuple(operations)
    assert late.missing() == ()
    assert late.heads() == log.heads()


def test_what_may_not_wait_is_dropped():
    """§4.11: a stranger's orphans take no room."""
    log, late = new_group(), new_group()
    first, second = say(log, ANN, propose("1")), say(log, ANN, propose("2"))
    assert late.add(second.raw, may_wait=False).missing == (first.hash,)
    assert late.missing() == ()
    assert late.add(first.raw).added == (first,)
    assert second.hash not in late


def test_the_waiting_room_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """§2.4: the newest push out the oldest, by number and by bytes."""
    monkeypatch.setattr(waiting_room, "WAITING_OPERATIONS_MAX", 3)
    log, late = new_group(), new_group()
    operations = [say(log, ANN, propose(str(number))) for number in range(6)]
    for operation in operations[1:]:
        late.add(operation.raw)
    assert late.missing() == (operations[2].hash,)
    assert late.add(operations[0].raw).added == (operations[0],)
    assert late.add(operations[1].raw).added == (operations[1],)
    assert [operation.hash for operation in late.add(operations[2].raw).added] == [
        operation.hash for operation in operations[2:]
    ]
    monkeypatch.setattr(waiting_room, "WAITING_BYTES_MAX", 2500)
    big = [say(log, ANN, RunPropose(manifest=bytes(1000))) for _ in range(6)]
    for operation in big[1:]:
        late.add(operation.raw)
    assert late.missing() == (big[4].hash,)


def test_a_previous_of_somebody_else_is_refused():
    """§2.5: the chain is the author's own."""
    log = new_group()
    admitted = admit(log, BOB)
    with pytest.raises(RemoteProtocolError, match="somebody else's"):
        log.add(place(log, BOB, propose("x"), (admitted,), admitted.hash))


def test_a_stranger_gets_nothing_into_a_log():
    """§2.6: neither a proposal nor a certificate that it made for itself, nor before it was admitted."""
    log = new_group()
    before = next(iter(log))
    with pytest.raises(RemoteProtocolError, match="before anything made it a member"):
        log.add(place(log, EVE, propose("x"), (before,), ""))
    with pytest.raises(RemoteProtocolError, match="before anything made it a member"):
        log.add(place(log, EVE, NodeBind(certificate=EVE.certificate), (before,), ""))
    admit(log, EVE)
    with pytest.raises(RemoteProtocolError, match="before anything made it a member"):
        log.add(place(log, EVE, propose("x"), (before,), ""))
    assert len(log) == 3


def test_a_refusal_depends_on_ancestors_alone():
    """§2.7: what waited and then cannot stand is dropped, as it would have been had it come in order."""
    log, late = new_group(), new_group()
    admitted = admit(log, BOB)
    stolen = place(log, BOB, propose("x"), (admitted,), admitted.hash)
    late.add(stolen)
    add_all(late, log)
    assert open_operation(stolen).hash not in late
    assert late.state() == log.state()
    assert late.missing() == ()


def test_operations_of_another_group_are_refused():
    """§2.2: all name the group."""
    log, other = new_group(name="one"), new_group(name="two")
    with pytest.raises(RemoteProtocolError, match="came to group"):
        log.add(next(iter(other)).raw)
    with pytest.raises(RemoteProtocolError, match="came to group"):
        log.add(say(other, ANN, propose("x")).raw)


def test_canonical_order_is_by_depth_then_hash():
    """§2.8: the same however the operations came, and what is rested on stands before."""
    log = new_group()
    branches = []
    for number in range(5):
        branch = log.copy()
        branches.append([say(branch, ANN, propose(f"{number} {step}")) for step in range(3)])
    for branch_operations in branches:
        for operation in branch_operations:
            log.add(operation.raw)
    expected = [log[log.group]]
    for step in range(3):
        expected += sorted((branch[step] for branch in branches), key=lambda operation: operation.hash)
    assert list(log) == expected


def test_of_a_fork_both_sides_are_kept():
    """§2.9: both enter, and the state has both."""
    log = new_group()
    other = log.copy()
    left, right = say(log, ANN, propose("left")), say(other, ANN, propose("right"))
    add_all(log, other)
    add_all(other, log)
    assert log[left.hash].body.previous == log[right.hash].body.previous
    assert log.state() == other.state()
    assert set(log.state().runs) == {left.hash, right.hash}
    after = say(log, ANN, propose("after"))
    assert after.body.previous == max(left.hash, right.hash)
    assert log.heads() == (after.hash,)


def test_an_unknown_kind_is_kept_passed_on_and_without_effect():
    """§2.10: and later operations may rest on it."""
    log = new_group()
    before = log.state()
    operation = log.add(unknown_operation(log, ANN, critical=False)).added[0]
    assert log.state() == before
    assert operation in log.operations_since(())
    assert say(log, ANN, propose("x")).body.parents == (operation.hash,)


def test_an_unknown_critical_kind_makes_the_node_too_old():
    """§2.11: it says so, with the kind and the remedy, and does not act on the state; the log still grows."""
    log = new_group()
    log.add(unknown_operation(log, ANN, critical=True))
    with pytest.raises(NodeTooOld, match=r"too old for the group study.*moon\.howl.*upgrade fednode"):
        log.state()
    with pytest.raises(NodeTooOld):
        say(log, ANN, propose("x"))
    assert log.add(place(log, ANN, propose("x"), (log[log.heads()[0]],), log.tip_of(ANN.node_id))).added


def test_an_observers_critical_mark_counts_for_nothing():
    """§2.11: who has no say in the group cannot stop everybody's nodes."""
    log = new_group()
    admit(log, CAT, role="observer")
    log.add(unknown_operation(log, CAT, critical=True))
    assert CAT.node_id in log.state().nodes


def test_a_copy_is_independent():
    log = new_group()
    other = log.copy()
    admit(log, BOB)
    assert BOB.node_id not in other.state().nodes
    say(other, ANN, propose("x"))
    assert len(log.state().runs) == 0
    add_all(other, log)
    add_all(log, other)
    assert log.state() == other.state()
    assert log.heads() == other.heads()


def test_operations_since_gives_what_is_lacking_in_order():
    log = new_group()
    heads = log.heads()
    added = [admit(log, BOB), bind(log, Person("ann-2", member="ann"), by=ANN)]
    lacking = log.operations_since(heads)
    assert lacking == list(log)[1:]
    assert set(added) < set(lacking)
    assert log.operations_since(log.heads()) == []
    assert log.operations_since(("0" * 64,)) == list(log)


def test_many_late_additions_are_not_quadratic():
    """§2.8: a look at the state after every operation folds each a few times, not a hundred times."""
    from protocol.group import log as group_log

    log = new_group()
    admit(log, BOB)
    other = log.copy()
    for number in range(60):
        say(log, ANN, propose(f"a{number}"))
        say(other, BOB, propose(f"b{number}"))
    folds = 0
    apply = group_log.apply

    def counted(*arguments):
        nonlocal folds
        folds += 1
        return apply(*arguments)

    late = new_group()
    try:
        group_log.apply = counted
        for left, right in zip(log.operations_since(()), other.operations_since(()), strict=True):
            for operation in (left, right):
                late.add(operation.raw)
                late.state()
    finally:
        group_log.apply = apply
    assert len(late) == 123
    assert folds < 3 * 123
