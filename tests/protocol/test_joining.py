"""The entrance conversation, both ends (docs/protocol.md §4)."""

import pytest
from entrance_helpers import KNOWN, frame, host, joiner, talk, token
from group_helpers import (
    ANN,
    BOB,
    CAT,
    DAN,
    EVE,
    GROUP_KEY,
    NOW,
    WEEK,
    Person,
    add_all,
    admission,
    admit,
    new_group,
    say,
    secret,
)

from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.invitation import Invitation
from protocol.entrance.joining import TRY_ANOTHER_ENTRANCE, Joined
from protocol.entrance.messages import Hello
from protocol.entrance.outputs import Close, KeepOperations, SendFrame, TurnedAway
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import InviteRevoke, NodeBind, RunPropose
from protocol.keys import GroupId, Hash


def test_a_joiner_gets_the_log_and_the_key():
    """§4.5, §4.6: Hello, Challenge, Proof, Admitted; the admission is handed out to be kept before the answer."""
    log = new_group()
    admit(log, CAT)
    result = talk(joiner(token(log, role="observer")), host(log))
    assert result.joined is not None
    assert result.joined.group_key == GROUP_KEY
    assert result.joined.known == KNOWN
    assert list(result.joined.log) == list(log)
    assert result.joined.log.state().members[BOB.member_id].role == "observer"
    (kept,) = result.kept
    assert kept.group == log.group
    assert [operation.payload.KIND for operation in kept.operations if operation.payload] == ["member.admit"]
    assert result.closed == Close(None)
    assert len(result.frames) == 4


def test_any_member_admits_while_the_inviter_is_away():
    """§3.6: Cat, a plain member, admits Bob with Ann's token."""
    log = new_group()
    admit(log, CAT)
    invitation = token(log)
    result = talk(joiner(invitation, at=CAT), host(log, by=CAT))
    assert result.joined is not None
    assert BOB.node_id in log.state().nodes


def test_the_outputs_come_in_the_order_to_carry_them_out():
    """§4.6: first keep, then send, then close."""
    log = new_group()
    guest, at = joiner(token(log)), host(log)
    (hello,) = guest.open()
    (challenge,) = at.receive(hello.frame, now=NOW)
    (proof,) = guest.receive(challenge.frame)
    kinds = [type(output) for output in at.receive(proof.frame, now=NOW)]
    assert kinds == [KeepOperations, SendFrame, Close]


def test_a_large_log_comes_in_parts():
    """§4.6: in canonical order, each part within a frame's bounds."""
    log = new_group()
    for number in range(300):
        say(log, ANN, RunPropose(manifest=bytes([number % 255 + 1])))
    for _ in range(12):
        say(log, ANN, RunPropose(manifest=bytes(100_000)))
    result = talk(joiner(token(log)), host(log))
    assert result.joined is not None
    assert list(result.joined.log) == list(log)
    assert len(result.frames) > 5
    assert max(map(len, result.frames)) < 1_200_000


@pytest.mark.parametrize("peer", [CAT, ANN])
def test_a_certificate_of_another_node_is_refused(peer: Person):
    """§4.4: Cat shows Bob's certificate."""
    log = new_group()
    assert talk(joiner(token(log)), host(log, peer=peer)).turned_away == "bad-certificate"
    assert len(log) == 2


def test_a_damaged_certificate_is_refused_with_the_reason():
    """§4.4"""
    log = new_group()
    guest = joiner(token(log))
    hello = Hello(group=log.group, invite_id=Hash("0" * 64), certificate=BOB.certificate[:-1] + b"\0")
    outputs = host(log).receive(frame(hello), now=NOW)
    assert isinstance(outputs[0], SendFrame)
    (away,) = guest.receive(outputs[0].frame)
    assert isinstance(away, TurnedAway)
    assert away.reason.code == "bad-certificate"


def revoked(log: GroupLog) -> Invitation:
    invitation = token(log)
    say(log, ANN, InviteRevoke(invite_id=invitation.invite_id))
    return invitation


def used_up(log: GroupLog) -> Invitation:
    invitation = token(log)
    say(log, ANN, admission(log, DAN, invitation.invite_id, invitation.seed))
    return invitation


def unknown(log: GroupLog) -> Invitation:
    return token(log.copy())


@pytest.mark.parametrize(
    ("make", "code"), [(revoked, "revoked"), (used_up, "used-up"), (unknown, "unknown-invitation")]
)
def test_the_host_refuses_by_name(make, code: str):
    """§4.5: and writes nothing."""
    log = new_group()
    invitation = make(log)
    before = len(log)
    result = talk(joiner(invitation), host(log))
    assert result.turned_away == code
    assert result.closed is not None
    assert result.closed.refused is not None
    assert (len(log), result.kept) == (before, [])


def test_the_host_refuses_what_its_own_clock_says_is_expired():
    """§4.5: the joiner's clock may be slow."""
    log = new_group()
    invitation = token(log)
    assert talk(joiner(invitation), host(log), now=NOW + WEEK + 1).turned_away == "expired"
    assert talk(joiner(invitation), host(log), now=NOW + WEEK).joined


def test_a_host_of_another_group_refuses():
    """§4.5, §4.10, §4.21: and the joiner knows to try another entrance."""
    log = new_group()
    other = GroupLog(GroupId("0" * 64))
    at = EntranceHost(
        {other.group: Hosted(other, GROUP_KEY)},
        CAT.key,
        peer=BOB.node_id,
        nonce=bytes(32),
        ephemeral_secret=secret("e"),
    )
    assert talk(joiner(token(log)), at).turned_away == "unknown-invitation"


def test_an_observer_admits_nobody():
    """§4.5, §4.10"""
    log = new_group()
    admit(log, CAT, role="observer")
    assert talk(joiner(token(log), at=CAT), host(log, by=CAT)).turned_away == "not-admitting"


def test_which_refusals_are_about_the_host():
    """§4.10"""
    assert {"unknown-invitation", "not-admitting", "not-a-member"} == TRY_ANOTHER_ENTRANCE
    assert not {"revoked", "used-up", "expired", "bad-proof", "forged", "bad-certificate"} & TRY_ANOTHER_ENTRANCE


def test_a_proof_with_the_wrong_seed_is_refused():
    """§4.6: a token's other parts are no secret."""
    log = new_group()
    real = token(log)
    guess = Invitation(**{name: getattr(real, name) for name in real.__slots__} | {"seed": secret("guess")})
    result = talk(joiner(guess), host(log))
    assert result.turned_away == "bad-proof"
    assert len(log) == 2


def test_an_overheard_conversation_is_worthless():
    """§4.6: the proof is for one nonce, and for the node that the stream authenticates."""
    log = new_group()
    result = talk(joiner(token(log, uses=9)), host(log.copy()))
    hello, _, proof, _ = result.frames
    replay = host(log, nonce=2)
    replay.receive(hello, now=NOW)
    assert isinstance(replay.receive(proof, now=NOW)[-1], Close)
    assert BOB.node_id not in log.state().nodes
    thief = host(log, peer=EVE)
    assert isinstance(thief.receive(hello, now=NOW)[-1], Close)


def test_the_host_checks_again_at_the_proof():
    """§4.6: revoked between Hello and Proof."""
    log = new_group()
    invitation = token(log)
    guest, at = joiner(invitation), host(log)
    (hello,) = guest.open()
    (challenge,) = at.receive(hello.frame, now=NOW)
    say(log, ANN, InviteRevoke(invite_id=invitation.invite_id))
    (proof,) = guest.receive(challenge.frame)
    refusal, close = at.receive(proof.frame, now=NOW)
    (away,) = guest.receive(refusal.frame)
    assert (away.reason.code, close.refused.code) == ("revoked", "revoked")


def test_two_joiners_at_once_share_one_use():
    """§4.6: both are challenged, one gets in."""
    log = new_group()
    invitation = token(log)
    ends = [(joiner(invitation, who), host(log, peer=who, nonce=who.name)) for who in (BOB, CAT)]
    proofs = []
    for guest, at in ends:
        (hello,) = guest.open()
        (challenge,) = at.receive(hello.frame, now=NOW)
        proofs += guest.receive(challenge.frame)
    outcomes = []
    for (guest, at), proof in zip(ends, proofs, strict=True):
        frames = [output.frame for output in at.receive(proof.frame, now=NOW) if isinstance(output, SendFrame)]
        outcomes += [output for frame_ in frames for output in guest.receive(frame_)]
    assert isinstance(outcomes[0], Joined)
    assert isinstance(outcomes[1], TurnedAway)
    assert outcomes[1].reason.code == "used-up"


def test_joining_again_is_harmless():
    """§4.7: after a crash, with the used-up token, at any node; nothing more is written."""
    log = new_group()
    admit(log, CAT)
    invitation = token(log)
    talk(joiner(invitation), host(log))
    before = len(log)
    for at, by in ((ANN, ANN), (CAT, CAT)):
        result = talk(joiner(invitation, at=at), host(log, by=by))
        assert result.joined is not None
        assert (result.kept, len(log), len(result.frames)) == ([], before, 2)


def test_an_admission_heard_in_between_is_not_written_twice():
    """§4.7: the joiner was admitted elsewhere between Hello and Proof."""
    log = new_group()
    admit(log, CAT)
    invitation = token(log)
    elsewhere = log.copy()
    guest, at = joiner(invitation), host(log)
    (hello,) = guest.open()
    (challenge,) = at.receive(hello.frame, now=NOW)
    (proof,) = guest.receive(challenge.frame)
    say(elsewhere, CAT, admission(elsewhere, BOB, invitation.invite_id, invitation.seed, by=CAT))
    add_all(log, elsewhere)
    outputs = at.receive(proof.frame, now=NOW)
    assert [type(output) for output in outputs] == [SendFrame, Close]
    assert isinstance(guest.receive(outputs[0].frame)[0], Joined)


def test_a_members_new_node_needs_no_invitation():
    """§4.8: it is bound; a stranger without one is turned away."""
    log = new_group()
    admit(log, CAT)
    cat_2 = Person("cat-2", member="cat")
    result = talk(joiner(None, cat_2, group=log.group), host(log, peer=cat_2))
    assert result.joined is not None
    assert log.state().members[CAT.member_id].nodes == (CAT.node_id, cat_2.node_id)
    assert [type(operation.payload) for operation in result.kept[0].operations] == [NodeBind]
    assert talk(joiner(None, EVE, group=log.group), host(log, peer=EVE)).turned_away == "unknown-invitation"


def test_a_newer_certificate_is_bound_on_rejoining():
    """§4.8, §3.19: a node that lost its seal key comes back with another, and the group's key is sealed to that."""
    log = new_group()
    admit(log, BOB)
    fresh = Person("bob", issued_at=NOW + 1)
    result = talk(joiner(None, fresh, group=log.group), host(log))
    assert result.joined is not None
    assert log.state().nodes[BOB.node_id].issued_at == NOW + 1
