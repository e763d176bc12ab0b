"""What neither end of the entrance believes or lets pass (docs/protocol.md §4)."""

import contextlib

import pytest
from entrance_helpers import KNOWN, frame, host, joiner, talk, token
from group_helpers import (
    ANN,
    BOB,
    CAT,
    EVE,
    GROUP_KEY,
    NOW,
    WEEK,
    Person,
    admission,
    admit,
    bind,
    force,
    new_group,
    say,
    secret,
    unknown_operation,
)
from hypothesis import given
from hypothesis import strategies as st

from protocol.entrance import joining
from protocol.entrance.invitation import Invitation
from protocol.entrance.messages import (
    Admitted,
    Challenge,
    Hello,
    LogPart,
    Proof,
    Refusal,
    Welcome,
    open_entrance_message,
    refusal_of,
)
from protocol.entrance.outputs import TurnedAway
from protocol.errors import Refused, RemoteProtocolError
from protocol.group.key import seal_to
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import MemberAdmit, RunPropose
from protocol.keys import GroupId, Hash
from protocol.wire import Wire


def admitted_frame(log: GroupLog, who: Person = BOB, **changes: object) -> bytes:
    fields: dict[str, object] = {
        "operations": tuple(operation.raw for operation in log),
        "epoch": 1,
        "sealed_key": seal_to(
            log.state().nodes[ANN.node_id].seal_key, GROUP_KEY, log.group, ephemeral_secret=secret("e")
        ),
        "known": (),
    }
    return frame(Admitted(**{**fields, **changes}))


def test_a_joiner_believes_no_other_group():
    """§4.9: the log must be that of the token's group."""
    log, other = new_group(name="one"), new_group(name="two")
    with pytest.raises(RemoteProtocolError, match="came to group"):
        joiner(token(log)).receive(admitted_frame(other))


def test_a_joiner_believes_no_log_with_holes():
    """§4.9"""
    log = new_group()
    guest = joiner(token(log))
    admit(log, BOB)
    with pytest.raises(RemoteProtocolError, match="holes"):
        guest.receive(admitted_frame(log, operations=tuple(operation.raw for operation in log)[1:]))


def test_a_joiner_is_not_admitted_by_a_stranger():
    """§4.9: Eve has a copy of the log, and no place in it."""
    log = new_group()
    guest = joiner(token(log), at=EVE)
    admit(log, BOB)
    with pytest.raises(RemoteProtocolError, match="no member of the group claimed"):
        guest.receive(admitted_frame(log))


def test_a_joiner_must_be_in_the_log_itself():
    """§4.9: an admission that was voided, or never written, is none."""
    log = new_group()
    guest = joiner(token(log))
    (away,) = guest.receive(admitted_frame(log))
    assert isinstance(away, TurnedAway)
    assert away.reason.code == "not-admitted"


@pytest.mark.parametrize(
    "changes",
    [
        {"inviter": CAT.node_id},
        {"role": "admin"},
        {"uses": 7},
        {"expires_at": NOW + WEEK + 1},
        {"seed": secret("guess")},
        {"group_name": "another"},
        {"invite_id": Hash("0" * 64)},
    ],
)
def test_a_token_that_promises_what_the_log_does_not_is_forged(changes: dict[str, object]):
    """§4.9: somebody other than the inviter signed it."""
    log = new_group()
    real = token(log)
    false = Invitation(**{name: getattr(real, name) for name in real.__slots__} | changes)
    guest = joiner(false)
    admit(log, BOB)
    (away,) = guest.receive(admitted_frame(log))
    assert isinstance(away, TurnedAway)
    assert away.reason.code == "forged"


def test_a_key_sealed_to_somebody_else_is_noticed():
    """§5.7"""
    log = new_group()
    guest = joiner(token(log))
    admit(log, BOB)
    with pytest.raises(RemoteProtocolError, match="sealed to somebody else"):
        guest.receive(admitted_frame(log))


def test_a_joiner_takes_in_a_bounded_log(monkeypatch: pytest.MonkeyPatch):
    """§4.9"""
    monkeypatch.setattr(joining, "JOIN_LOG_BYTES_MAX", 5000)
    log = new_group()
    guest = joiner(token(log))
    part = frame(LogPart(operations=(say(log, ANN, RunPropose(manifest=bytes(6000))).raw,)))
    with pytest.raises(RemoteProtocolError, match="more than 5000 bytes"):
        guest.receive(part)


def test_a_joiner_that_is_too_old_says_so():
    """§2.11"""
    log = new_group()
    guest = joiner(token(log))
    admit(log, BOB)
    howl = unknown_operation(log, ANN, critical=True)
    (away,) = guest.receive(admitted_frame(log, operations=(*(operation.raw for operation in log), howl)))
    assert isinstance(away, TurnedAway)
    assert away.reason.code == "too-old"
    log.add(howl)
    assert talk(joiner(None, group=log.group), host(log)).turned_away == "not-admitting"


HELLO = frame(Hello(group=GroupId("0" * 64), invite_id=Hash(""), certificate=BOB.certificate))


@pytest.mark.parametrize(
    "message", [Challenge(nonce=bytes(32)), Proof(signature=bytes(64)), Welcome(), LogPart(operations=()), b"junk"]
)
def test_a_host_cuts_off_what_is_out_of_place(message: Wire | bytes):
    """§4.13"""
    log = new_group()
    with pytest.raises(RemoteProtocolError):
        host(log).receive(message if isinstance(message, bytes) else frame(message), now=NOW)


@pytest.mark.parametrize(
    "message", [Hello(group=GroupId("0" * 64), invite_id=Hash(""), certificate=b""), Welcome(), b""]
)
def test_a_joiner_cuts_off_what_is_out_of_place(message: Wire | bytes):
    """§4.13"""
    log = new_group()
    guest = joiner(token(log))
    with pytest.raises(RemoteProtocolError):
        guest.receive(message if isinstance(message, bytes) else frame(message))


def test_nothing_comes_twice_or_after_the_end():
    """§4.13: no second Hello, no second Challenge, no Challenge without an invitation, nothing after a refusal."""
    log = new_group()
    guest, at = joiner(token(log)), host(log)
    (hello,) = guest.open()
    (challenge,) = at.receive(hello.frame, now=NOW)
    with pytest.raises(RemoteProtocolError):
        at.receive(hello.frame, now=NOW)
    guest.receive(challenge.frame)
    with pytest.raises(RemoteProtocolError):
        guest.receive(challenge.frame)
    with pytest.raises(RemoteProtocolError):
        joiner(None, group=log.group).receive(challenge.frame)
    refusal = frame(Refusal(code="x", what="x", remedy="x"))
    guest.receive(refusal)
    with pytest.raises(RemoteProtocolError, match="after the end"):
        guest.receive(refusal)
    at = host(log)
    at.receive(HELLO, now=NOW)
    with pytest.raises(RemoteProtocolError, match="after the end"):
        at.receive(HELLO, now=NOW)


def test_a_refusal_may_say_anything_and_still_is_sent():
    """§4.5: a name with escape codes does not break the refusal, nor reach the other's terminal."""
    refusal = refusal_of(Refused("x", "a\x1b[31m" + "b" * 1000, remedy="c\nd"))
    assert open_entrance_message(frame(refusal)) == refusal
    assert "\x1b" not in refusal.what


def test_an_admission_by_a_liar_counts_for_nothing():
    """§3.14, §4.9: a member that writes an admission without the joiner's proof gains nobody."""
    log = new_group()
    admit(log, CAT)
    invitation = token(log)
    payload = admission(log, EVE, invitation.invite_id, secret("guess"), by=CAT)
    assert isinstance(payload, MemberAdmit)
    force(log, CAT, payload)
    assert EVE.node_id not in log.state().nodes
    bind(log, Person("ann-2", member="ann"), by=CAT)


@given(st.data())
def test_a_conversation_with_a_flipped_bit_admits_nobody(data: st.DataObject):
    """§4.13: whatever arrives, the host refuses it or cuts it off; its log stays as it was."""
    log = new_group()
    hello, _, proof, _ = talk(joiner(token(log)), host(log.copy())).frames
    at, frames = host(log), [bytearray(hello), bytearray(proof)]
    flipped = data.draw(st.sampled_from(frames))
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(RemoteProtocolError):
        for message in frames:
            at.receive(bytes(message), now=NOW)
    assert len(log) == 2


@given(st.data())
def test_an_answer_with_a_flipped_bit_gives_no_other_log_or_key(data: st.DataObject):
    """§4.9: only the hints where to dial are taken on trust."""
    log = new_group()
    invitation = token(log)
    _, challenge, _, admitted = talk(joiner(invitation), host(log)).frames
    flipped = bytearray(admitted)
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    guest = joiner(invitation)
    guest.receive(challenge)
    with contextlib.suppress(RemoteProtocolError):
        (outcome,) = guest.receive(bytes(flipped))
        assert isinstance(outcome, TurnedAway) or (
            outcome.group_key == GROUP_KEY and list(outcome.log) == list(log) and outcome.known != KNOWN
        )


@given(st.binary(max_size=200))
def test_no_frame_breaks_either_end(junk: bytes):
    """§4.13"""
    log = new_group()
    with pytest.raises(RemoteProtocolError):
        host(log).receive(junk, now=NOW)
    with pytest.raises(RemoteProtocolError):
        joiner(token(log)).receive(junk)
