"""A member whose admission the host has not heard of (docs/protocol.md §4.11, §4.12)."""

import pytest
from group_helpers import (
    ANN,
    BOB,
    CAT,
    EVE,
    GROUP_KEY,
    NOW,
    Person,
    add_all,
    admission,
    admit,
    new_group,
    post,
    say,
    secret,
    unknown_operation,
)

from protocol.entrance import introducing
from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.introducing import Introduction, IntroductionOutput, Welcomed
from protocol.entrance.messages import Ask, Introduce, open_entrance_message
from protocol.entrance.outputs import Close, HostOutput, KeepOperations, SendFrame, TurnedAway
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import RunPropose
from protocol.limits import ENTRANCE_BYTES_MAX
from protocol.wire import pack


def host(log: GroupLog, peer: Person = BOB) -> EntranceHost:
    return EntranceHost(
        {log.group: Hosted(log, GROUP_KEY)},
        CAT.key,
        peer=peer.node_id,
        nonce=bytes(32),
        ephemeral_secret=secret("e"),
    )


def talk(guest: Introduction, at: EntranceHost) -> tuple[IntroductionOutput, list[HostOutput], int]:
    """How it ended for the guest, all that the host did, and how many bytes the guest sent."""
    to_host, done, sent = guest.open(), [], 0
    while isinstance(to_host[0], SendFrame):
        heard: list[HostOutput] = []
        for output in to_host:
            assert isinstance(output, SendFrame)
            sent += len(output.frame)
            heard += at.receive(output.frame, now=NOW)
        done += heard
        to_host = [
            answer for output in heard if isinstance(output, SendFrame) for answer in guest.receive(output.frame)
        ]
    return to_host[0], done, sent


def parted() -> tuple[GroupLog, GroupLog]:
    """Two replicas: Cat is in both, and Bob was admitted on the first alone."""
    log = new_group()
    admit(log, CAT)
    behind = log.copy()
    admit(log, BOB)
    return log, behind


def test_the_newest_operations_are_enough_for_a_host_that_was_just_here():
    """§4.11, §4.12: one message, what is new is kept, Welcome."""
    log, behind = parted()
    end, done, _ = talk(Introduction(log, BOB.node_id), host(behind))
    assert end == Welcomed()
    assert [type(output) for output in done] == [KeepOperations, SendFrame, Close]
    assert behind.state().admits(BOB.node_id)
    assert list(behind) == list(log)


def test_a_host_that_lacks_more_is_shown_the_rest():
    """§4.11: it says what it holds, and gets what Bob's admission rests on, and nothing else."""
    log = new_group()
    admit(log, CAT)
    behind = log.copy()
    say(behind, CAT, RunPropose(manifest=b"the host's own"))
    for number in range(100):
        say(log, ANN, RunPropose(manifest=bytes([number + 1])))
    admit(log, BOB)
    say(log, ANN, RunPropose(manifest=b"later"))
    end, done, _ = talk(Introduction(log, BOB.node_id), host(behind))
    assert end == Welcomed()
    assert sum(isinstance(output, SendFrame) for output in done) == 2
    assert {op.hash for op in log} - {op.hash for op in behind} == set(log.heads())
    kept = [op for output in done if isinstance(output, KeepOperations) for op in output.operations]
    assert len(kept) == 102


def test_a_guest_that_is_known_already_is_welcome():
    """§4.12: the host may have heard meanwhile."""
    log, _ = parted()
    end, done, _ = talk(Introduction(log, BOB.node_id), host(log.copy()))
    assert end == Welcomed()
    assert [type(output) for output in done] == [SendFrame, Close]


def test_showing_somebody_elses_admission_is_no_use():
    """§4.12: Eve, at the other end of the stream, shows Bob's."""
    log, behind = parted()
    end, done, _ = talk(Introduction(log, BOB.node_id), host(behind, peer=EVE))
    assert isinstance(end, TurnedAway)
    assert end.reason.code == "not-a-member"
    assert isinstance(done[-1], Close)


def test_a_voided_admission_is_no_use():
    """§4.12, §3.46: the host knows of an earlier use of the invitation, and says so."""
    log = new_group()
    admit(log, CAT)
    invite_id, seed = post(log)
    one, two = log.copy(), log.copy()
    first = say(one, ANN, admission(one, BOB, invite_id, seed))
    second = say(two, ANN, admission(two, EVE, invite_id, seed))
    loser, loser_log, winner_log = (BOB, one, two) if second.hash < first.hash else (EVE, two, one)
    end, _, _ = talk(Introduction(loser_log, loser.node_id), host(winner_log, peer=loser))
    assert isinstance(end, TurnedAway)
    assert end.reason.code == "used-up"


def test_a_stranger_leaves_nothing_behind():
    """§4.11: orphans are dropped, bad operations end it, and what came before a bad one is still handed out."""
    log, behind = parted()
    orphan = say(log, BOB, RunPropose(manifest=b"x"))
    missing = Introduce(group=log.group, operations=(orphan.raw,), last=True)
    (ask,) = host(behind).receive(pack(missing), now=NOW)
    assert isinstance(ask, SendFrame)
    assert isinstance(open_entrance_message(ask.frame), Ask)
    assert behind.missing() == ()
    lacking = log.operations_since(behind.heads())
    bad = Introduce(group=log.group, operations=(lacking[0].raw, b"junk"), last=True)
    outputs = host(behind).receive(pack(bad), now=NOW)
    assert [type(output) for output in outputs] == [KeepOperations, SendFrame, Close]
    assert outputs[-1].refused.code == "bad-operation"


def test_a_host_asks_once():
    """§4.13: who then still shows too little is refused."""
    log, behind = parted()
    orphan = say(log, BOB, RunPropose(manifest=b"x"))
    at, message = host(behind), pack(Introduce(group=log.group, operations=(orphan.raw,), last=True))
    at.receive(message, now=NOW)
    assert isinstance(at.receive(message, now=NOW)[-1], Close)
    guest, ask = Introduction(log, BOB.node_id), pack(Ask(holds=()))
    guest.receive(ask)
    with pytest.raises(RemoteProtocolError):
        guest.receive(ask)


def test_what_a_stranger_shows_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """§4.11: the guest gives up where the host would cut it off, and fits the entrance's budget of bytes."""
    log = new_group()
    admit(log, CAT)
    behind = log.copy()
    for _ in range(30):
        say(log, ANN, RunPropose(manifest=bytes(100_000)))
    admit(log, BOB)
    end, _, sent = talk(Introduction(log, BOB.node_id), host(behind.copy()))
    assert isinstance(end, TurnedAway)
    assert end.reason.code == "too-far-behind"
    assert sent < ENTRANCE_BYTES_MAX
    monkeypatch.setattr(introducing, "INTRODUCTION_BYTES_MAX", 10**9)
    with pytest.raises(RemoteProtocolError, match="showed more than"):
        talk(Introduction(log, BOB.node_id), host(behind.copy()))


def test_several_messages_are_judged_at_the_last():
    """§4.11: two megabytes go in several frames."""
    log = new_group()
    admit(log, CAT)
    behind = log.copy()
    for _ in range(20):
        say(log, ANN, RunPropose(manifest=bytes(100_000)))
    add_all(log, behind)
    admit(log, BOB)
    end, done, _ = talk(Introduction(log, BOB.node_id), host(behind))
    assert end == Welcomed()
    assert sum(isinstance(output, KeepOperations) for output in done) >= 2


def test_a_host_that_becomes_too_old_keeps_what_it_learned():
    """§4.11, §2.11: what was added is still handed out to be made durable."""
    log, behind = parted()
    log.add(unknown_operation(log, ANN, critical=True))
    lacking = [operation.raw for operation in log.operations_since(behind.heads())]
    shown = pack(Introduce(group=log.group, operations=tuple(lacking), last=True))
    kept, _, close = host(behind).receive(shown, now=NOW)
    assert isinstance(kept, KeepOperations)
    assert [operation.raw for operation in kept.operations] == lacking
    assert isinstance(close, Close)
    assert close.refused is not None
    assert close.refused.code == "not-admitting"


def test_only_the_admitted_introduce_themselves():
    """§4.11: a bug of ours is told as one."""
    with pytest.raises(LocalProtocolError, match="never admitted"):
        Introduction(new_group(), EVE.node_id)
