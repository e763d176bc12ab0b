"""Anti-entropy between two replicas (docs/protocol.md §5.1 to §5.4; the property test is in test_group_convergence)."""

import pytest
from group_helpers import ANN, BOB, admit, converse, new_group, say

from protocol.errors import RemoteProtocolError
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import RunPropose
from protocol.group.sync import SYNC_MESSAGE_BYTES_MAX, SyncMessage, SyncSession, heads_digest
from protocol.limits import FRAME_BYTES_MAX, SYNC_BYTES_MAX, SYNC_HEADS_MAX, SYNC_OPERATIONS_MAX
from protocol.wire import pack


def grow(log: GroupLog, count: int, label: str = "x", size: int = 0) -> None:
    for number in range(count):
        say(log, ANN, RunPropose(manifest=f"{label}{number}".encode() + bytes(size)))


def hashes(log: GroupLog) -> set[str]:
    return {operation.hash for operation in log}


def test_equal_logs_need_one_message():
    """§5.2"""
    log = new_group()
    grow(log, 50)
    assert converse(log, log.copy()) == 1


@pytest.mark.parametrize("behind_begins", [True, False])
def test_whoever_begins_the_one_behind_catches_up(behind_begins: bool):
    """§5.3: two messages when the one behind asks, three when the one ahead does."""
    log = new_group()
    behind = log.copy()
    grow(log, 40)
    assert converse(behind, log) == 2 if behind_begins else converse(log, behind) == 3
    assert hashes(behind) == hashes(log)


def test_an_empty_log_is_filled():
    """§5.1"""
    log = new_group()
    grow(log, 20)
    empty = GroupLog(log.group)
    assert converse(empty, log) == 2
    assert empty.state() == log.state()


def test_a_long_difference_goes_in_bounded_batches():
    """§5.1: by number; a round trip each."""
    log = new_group()
    behind = log.copy()
    grow(log, 700)
    assert converse(behind, log) == 6
    assert hashes(behind) == hashes(log)


def test_big_operations_go_in_bounded_batches():
    """§5.1: by bytes; every message fits a frame."""
    log = new_group()
    grow(log, 25, size=100_000)
    ends = SyncSession(log), SyncSession(GroupLog(log.group))
    message, count = ends[1].open(), 0
    while message is not None:
        assert len(pack(message)) <= SYNC_MESSAGE_BYTES_MAX < FRAME_BYTES_MAX
        message = ends[count % 2].receive(message).answer
        count += 1
    assert count == 6


def test_logs_that_parted_send_little_that_is_known():
    """§5.3: after 1,000 common operations, each sends its own 30 and few others."""
    left = new_group()
    admit(left, BOB)
    grow(left, 1000)
    right = left.copy()
    grow(left, 30, "left")
    for number in range(30):
        say(right, BOB, RunPropose(manifest=f"right{number}".encode()))
    ends = SyncSession(left), SyncSession(right)
    asked = ends[0].open()
    answered = ends[1].receive(asked).answer
    assert answered is not None
    assert len(answered.operations) <= 65
    closing = ends[0].receive(answered).answer
    assert closing is not None
    assert len(closing.operations) == 30
    assert ends[1].receive(closing).answer is None
    assert hashes(left) == hashes(right)


def test_both_may_open_at_once():
    """§5.3: the messages cross; both end with the union."""
    left = new_group()
    right = left.copy()
    grow(left, 300, "left")
    grow(right, 300, "right")
    ends = [SyncSession(left), SyncSession(right)]
    in_flight = [[ends[1].open()], [ends[0].open()]]  # in_flight[i]: on the way to end i
    messages = 0
    while in_flight[0] or in_flight[1]:
        for end in (0, 1):
            if in_flight[end]:
                messages += 1
                answer = ends[end].receive(in_flight[end].pop(0)).answer
                if answer is not None:
                    in_flight[1 - end].append(answer)
    assert hashes(left) == hashes(right)
    assert messages < 16


def test_many_heads_are_too_many_to_name():
    """§5.1, §5.3: the message stays bounded, and the logs agree all the same."""
    log = new_group()
    start = log.copy()
    grow(log, 3)
    behind = log.copy()
    for number in range(SYNC_HEADS_MAX + 200):
        branch = start.copy()
        log.add(say(branch, ANN, RunPropose(manifest=f"head {number}".encode())).raw)
    assert len(log.heads()) > SYNC_HEADS_MAX
    assert len(SyncSession(log).open().holds) <= SYNC_HEADS_MAX + 64
    converse(behind, log)
    assert hashes(behind) == hashes(log)
    lacking_one = GroupLog(log.group)
    shallowest = log.heads()[-1]
    for operation in log:
        if operation.hash != shallowest:
            lacking_one.add(operation.raw)
    converse(log, lacking_one)
    assert shallowest in lacking_one


def test_a_bad_operation_does_not_keep_out_the_others():
    """§5.4: and it is told."""
    log = new_group()
    behind = log.copy()
    grow(log, 3)
    good = [operation.raw for operation in log.operations_since(behind.heads())]
    message = SyncSession(log).open().model_copy(update={"operations": (good[0], b"junk", good[1], good[2])})
    result = SyncSession(behind).receive(message)
    assert [operation.raw for operation in result.added] == good
    assert result.fault is not None
    assert hashes(behind) == hashes(log)


def test_a_liar_is_not_talked_to_for_ever():
    """§5.3: it claims to hold what it never sends."""
    log = new_group()
    session = SyncSession(log)
    claim = SyncSession(log).open().model_copy(update={"digest": "0" * 64, "holds": ("1" * 64,), "opens": False})
    assert session.receive(claim).answer is not None  # it seems to lack our operation
    assert session.receive(claim).answer is None


def test_a_new_conversation_forgets_what_the_last_one_sent():
    """§5.3: a frame that was lost with its stream is sent again."""
    log = new_group()
    behind = log.copy()
    grow(log, 5)
    ends = SyncSession(log), SyncSession(behind)
    assert ends[0].receive(ends[1].open()).answer is not None  # and is lost
    again = ends[0].receive(ends[1].open()).answer
    assert again is not None
    assert len(again.operations) == 5


def test_messages_of_another_group_are_refused():
    """§5.1"""
    one, two = new_group(name="one"), new_group(name="two")
    with pytest.raises(RemoteProtocolError, match="came to"):
        SyncSession(one).receive(SyncSession(two).open())


def test_a_digest_is_of_the_heads():
    """§5.2: whatever came in which order."""
    log = new_group()
    before = heads_digest(log)
    grow(log, 1)
    assert heads_digest(log) != before
    assert len(SyncMessage.model_fields) == 5
    assert SYNC_OPERATIONS_MAX * 256 < SYNC_BYTES_MAX
