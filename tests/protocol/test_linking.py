"""Linking a machine as one more node of a member, sans-I/O, honest and hostile. docs/protocol.md §10.1 to §10.7."""

import pytest
from entrance_helpers import joiner
from group_helpers import ANN, BOB, NOW, WEEK, Person, admit, new_group, secret
from hypothesis import given
from hypothesis import strategies as st
from link_helpers import (
    HOUR,
    LAPTOP,
    PHONE,
    RECORD,
    STUDY,
    TOWER,
    WHERE,
    host,
    machine,
    own_nodes,
    talk,
    token_of,
    token_text_of,
)

from protocol.entrance.device_link import link_id_of, make_device_token, open_device_token
from protocol.entrance.invitation import invite, open_token
from protocol.entrance.linking import Linking
from protocol.entrance.messages import Challenge, Linked, LinkHello, LinkProof, Revoked, open_entrance_message
from protocol.entrance.outputs import Close, KeepSiblings, SendFrame
from protocol.entrance.siblings import LINK_KEPT_S, NODES_EVER_MAX, OPEN_LINKS_MAX, Siblings
from protocol.errors import Refused, RemoteProtocolError
from protocol.group.key import seal_key_of
from protocol.identity import consent_to, make_certificate, make_revocation, open_certificate
from protocol.keys import Hash
from protocol.limits import NODES_PER_MEMBER_MAX
from protocol.token_text import DEVICE_LINK, INVITATION, kind_of, token_payload, token_text
from protocol.wire import pack


def code_of(text: str, now: int | None = NOW) -> str:
    with pytest.raises(Refused) as refused:
        open_device_token(text, now=now)
    assert refused.value.remedy
    return refused.value.code


# --- the token -----------------------------------------------------------------------------------------------------
def test_a_device_token_says_whose_node_one_becomes():
    """§10.2"""
    token = token_of(None)
    assert (token.member_id, token.member_name, token.expires_at) == (ANN.member_id, "ann", NOW + HOUR)
    assert token.host_id == ANN.node_id
    assert token.host.entrance_addresses == WHERE.entrance_addresses
    assert token.link_id == link_id_of(secret("device", 0)) != token.seed.hex()
    assert token.seed.hex() not in repr(token)
    assert kind_of(token_text_of(None).upper()) is DEVICE_LINK
    assert open_device_token(f"> {token_text_of(None)[:90].upper()}\n> {token_text_of(None)[90:].upper()}", now=NOW)


def test_what_cannot_be_used_is_refused_by_its_name():
    """§10.2"""
    text = token_text_of(None)
    assert code_of("hello") == "not-a-token"
    assert code_of(text[:-9]) == "truncated"
    assert code_of(text[:-1] + ("a" if text[-1] != "a" else "b")) == "mistyped"
    assert code_of(text.replace("link1", "link2", 1)) == "newer-token"
    assert code_of(text, NOW + HOUR + 1) == "expired"
    assert open_device_token(text, now=None).expires_at == NOW + HOUR  # for whoever has used it already
    payload = bytearray(token_payload(text, DEVICE_LINK))
    payload[len(payload) // 2] ^= 1
    assert code_of(token_text(bytes(payload), DEVICE_LINK)) == "forged"
    assert code_of(token_text(b"", DEVICE_LINK)) == "forged"


def test_neither_kind_of_token_is_taken_for_the_other():
    """§10.2"""
    log = new_group()
    _, invitation = invite(
        log, ANN.key, seed=secret("s"), role="member", uses=1, expires_at=NOW + WEEK, entrances=(WHERE,), now=NOW
    )
    device = token_text_of(None)
    assert code_of(invitation) == "not-a-token"
    with pytest.raises(Refused) as refused:
        open_token(device, now=NOW)
    assert refused.value.code == "not-a-token"
    assert "--link" in refused.value.remedy
    assert (kind_of(device), kind_of(invitation)) == (DEVICE_LINK, INVITATION)
    # Nor does another beginning make it another token.
    bare = device.removeprefix(DEVICE_LINK.prefix)
    with pytest.raises(Refused) as refused:
        open_token(INVITATION.prefix + bare, now=NOW)
    assert refused.value.code == "mistyped"


def test_a_token_of_many_addresses_still_fits():
    """§10.2"""
    longest = tuple(f"/dns4/{'x' * 230}/tcp/{4000 + number}" for number in range(16))
    where = WHERE.model_copy(update={"entrance_addresses": longest, "addresses": longest})
    text = make_device_token(ANN.member_key, member_name="ann", seed=secret(1), expires_at=NOW, host=where)
    assert 1 <= len(open_device_token(text, now=NOW).host.entrance_addresses) <= 16


# --- linking -------------------------------------------------------------------------------------------------------
def test_a_machine_becomes_a_node_of_the_member():
    """§10.5"""
    siblings = own_nodes(TOWER)
    token = token_of(siblings)
    result = talk(machine(token), host(siblings))
    assert result.made is not None
    certificate = open_certificate(result.made.certificate)
    assert (certificate.member_id, certificate.node_id) == (ANN.member_id, LAPTOP.node_id)
    assert (certificate.member_name, certificate.node_name) == ("ann", "laptop")
    assert certificate.seal_key == seal_key_of(LAPTOP.seal_secret)
    assert certificate.issued_at == NOW
    assert (result.made.groups, result.made.known) == ((STUDY,), (RECORD,))
    assert result.kept == 1  # and nothing was told before: `talk` looks
    assert all(result.made.siblings.admits(node.node_id) for node in (ANN, TOWER, LAPTOP))
    assert siblings.admits(LAPTOP.node_id)
    assert siblings.links[token.link_id].used_by == LAPTOP.node_id
    assert not any(token.seed in frame for frame in result.frames)


def test_a_linked_node_makes_no_nodes():
    """§10.1"""
    siblings = own_nodes()
    result = talk(machine(token_of(siblings)), host(siblings, with_key=False))
    assert result.turned_away == "no-member-key"
    assert not siblings.admits(LAPTOP.node_id)
    assert result.kept == 0


def test_only_tokens_that_are_kept_are_good():
    """§10.3"""
    assert talk(machine(token_of(None)), host(own_nodes())).turned_away == "unknown-link"
    siblings = own_nodes()
    for number in range(OPEN_LINKS_MAX):
        token_of(siblings, number=number)
    with pytest.raises(Refused) as refused:
        token_of(siblings, number=OPEN_LINKS_MAX)
    assert refused.value.code == "too-many-links"
    siblings.use_link(siblings.links[link_id_of(secret("device", 0))], LAPTOP.node_id)
    token_of(siblings, number=OPEN_LINKS_MAX)  # one was used
    siblings.open_link(Hash("00" * 32), expires_at=NOW + 2 * LINK_KEPT_S, now=NOW + HOUR + LINK_KEPT_S + 1)
    assert list(siblings.links) == ["00" * 32]  # those that are long over are forgotten


def test_the_host_refuses_by_name():
    """§10.4"""
    siblings = own_nodes()
    token = token_of(siblings)
    assert talk(machine(token), host(siblings), now=NOW + HOUR + 1).turned_away == "expired"
    assert talk(machine(token), host(siblings), now=NOW + HOUR).made
    used = talk(machine(token, PHONE), host(siblings, peer=PHONE))
    assert used.turned_away == "used"
    assert used.closed is not None
    assert used.closed.refused is not None
    assert not siblings.admits(PHONE.node_id)


def test_a_token_that_was_taken_back_links_nobody():
    """§10.15: also not the machine that has its nonce already; the room that it took is free again."""
    siblings = own_nodes()
    token = token_of(siblings)
    link_id = link_id_of(token.seed)
    door, guest = host(siblings), machine(token)
    (hello,) = guest.open()
    (challenge,) = door.receive(hello.frame, now=NOW)
    (proof,) = guest.receive(challenge.frame)
    siblings.revoke_link(link_id, "")
    refusal, _ = door.receive(proof.frame, now=NOW)
    (away,) = guest.receive(refusal.frame)
    assert away.reason.code == "revoked-link"
    assert talk(machine(token), host(siblings, nonce=2)).turned_away == "revoked-link"
    assert not siblings.admits(LAPTOP.node_id)
    with pytest.raises(Refused, match="already"):
        siblings.revoke_link(link_id, "")
    for number in range(1, OPEN_LINKS_MAX + 1):
        token_of(siblings, number=number)


def test_a_token_that_was_used_is_not_taken_back():
    """§10.15: that would look as if the machine were out."""
    siblings = own_nodes()
    token = token_of(siblings)
    assert talk(machine(token), host(siblings)).made
    with pytest.raises(Refused) as refused:
        siblings.revoke_link(link_id_of(token.seed), "laptop")
    assert refused.value.code == "used"
    assert "fednode nodes revoke laptop" in refused.value.remedy
    assert talk(machine(token), host(siblings, nonce=2)).made  # §10.6 holds as before


def test_a_member_has_so_many_nodes():
    """§10.4"""
    siblings = own_nodes(*(Person(f"node-{number}", member="ann") for number in range(NODES_PER_MEMBER_MAX - 1)))
    assert talk(machine(token_of(siblings)), host(siblings)).turned_away == "too-many-nodes"
    siblings.add_revocation(make_revocation(ANN.member_key, Person("node-0", member="ann").node_id, issued_at=NOW))
    assert talk(machine(token_of(siblings, number=1)), host(siblings)).made
    assert NODES_EVER_MAX > NODES_PER_MEMBER_MAX


def test_two_machines_with_one_token_at_once():
    """§10.5: what may have changed since the challenge is looked at again."""
    siblings = own_nodes()
    token = token_of(siblings)
    first, second = machine(token), machine(token, PHONE)
    doors = host(siblings), host(siblings, peer=PHONE, nonce=2)
    proofs = []
    for guest, door in zip((first, second), doors, strict=True):
        (hello,) = guest.open()
        (challenge,) = door.receive(hello.frame, now=NOW)
        proofs += guest.receive(challenge.frame)
    assert any(isinstance(output, KeepSiblings) for output in doors[0].receive(proofs[0].frame, now=NOW))
    (refusal, close) = doors[1].receive(proofs[1].frame, now=NOW)
    assert isinstance(close, Close)
    assert close.refused is not None
    assert close.refused.code == "used"
    (away,) = second.receive(refusal.frame)
    assert away.reason.code == "used"
    assert not siblings.admits(PHONE.node_id)


def test_the_clock_is_looked_at_again_too():
    """§10.5"""
    siblings = own_nodes()
    door, guest = host(siblings), machine(token_of(siblings))
    (hello,) = guest.open()
    (challenge,) = door.receive(hello.frame, now=NOW)
    (proof,) = guest.receive(challenge.frame)
    refusal, _ = door.receive(proof.frame, now=NOW + HOUR + 1)
    (away,) = guest.receive(refusal.frame)
    assert away.reason.code == "expired"
    assert not siblings.admits(LAPTOP.node_id)


def test_whoever_never_heard_the_answer_gets_it_again():
    """§10.6"""
    siblings = own_nodes()
    token = token_of(siblings)
    first = talk(machine(token), host(siblings))
    again = talk(machine(token), host(siblings, nonce=2), now=NOW + WEEK)
    assert first.made
    assert again.made
    assert again.made.certificate == first.made.certificate
    assert len(siblings.certificates) == 2


def test_a_new_key_to_seal_to_makes_a_newer_certificate():
    """§10.6: the machine's home was lost but for its node's key."""
    siblings = own_nodes()
    token = token_of(siblings)
    talk(machine(token), host(siblings))
    other = Linking(token, LAPTOP.key, node_name="laptop", seal_key=seal_key_of(secret("new")), peer=ANN.node_id)
    made = talk(other, host(siblings, nonce=2), now=NOW - 5).made
    assert made is not None
    assert open_certificate(made.certificate).issued_at == NOW + 1
    assert siblings.certificates[LAPTOP.node_id] == made.certificate


# --- hostile machines ----------------------------------------------------------------------------------------------
def test_who_has_only_the_id_of_a_token_is_not_linked():
    """§10.5: the id is what anybody on the wire sees."""
    siblings = own_nodes()
    token = token_of(siblings)
    door = host(siblings)
    (_,) = door.receive(pack(LinkHello(link_id=token.link_id)), now=NOW)
    guess = machine(token, seed=secret("a guess"))
    (proof,) = guess.receive(pack(Challenge(nonce=secret("nonce", 1))))
    _refusal, close = door.receive(proof.frame, now=NOW)
    assert close.refused.code == "bad-proof"
    assert not siblings.admits(LAPTOP.node_id)
    assert siblings.links[token.link_id].used_by is None
    assert talk(machine(token), host(siblings, nonce=2)).made  # and the token is still good


@pytest.mark.parametrize("what", ["another nonce", "another host", "another node", "another name", "another seal key"])
def test_an_overheard_proof_is_worth_nothing(what: str):
    """§10.5"""
    siblings = own_nodes()
    token = token_of(siblings)
    guest = machine(token, at=TOWER if what == "another host" else ANN)
    nonce = bytes(32) if what == "another nonce" else secret("nonce", 1)
    (overheard,) = guest.receive(pack(Challenge(nonce=nonce)))
    peer = PHONE if what == "another node" else LAPTOP
    door = host(siblings, peer=peer)
    door.receive(pack(LinkHello(link_id=token.link_id)), now=NOW)
    proof = open_entrance_message(overheard.frame)
    assert isinstance(proof, LinkProof)
    if what == "another name":
        proof = proof.model_copy(update={"node_name": "mallory"})
    if what == "another seal key":
        seal_key = seal_key_of(PHONE.seal_secret)
        consent = consent_to(ANN.member_id, LAPTOP.key, seal_key)
        proof = proof.model_copy(update={"seal_key": seal_key, "consent": consent})
    _, close = door.receive(pack(proof), now=NOW)
    assert close.refused.code == "bad-proof"
    assert not siblings.admits(peer.node_id)


def test_a_node_that_does_not_consent_is_not_certified():
    """§10.5"""
    siblings = own_nodes()
    token = token_of(siblings)
    door = host(siblings)
    door.receive(pack(LinkHello(link_id=token.link_id)), now=NOW)
    (said,) = machine(token).receive(pack(Challenge(nonce=secret("nonce", 1))))
    proof = open_entrance_message(said.frame).model_copy(update={"consent": bytes(64)})
    _, close = door.receive(pack(proof), now=NOW)
    assert close.refused.code == "bad-certificate"
    assert siblings.links[token.link_id].used_by is None


def test_a_revoked_node_is_not_linked_again():
    """§10.8"""
    siblings = own_nodes()
    token = token_of(siblings)
    assert talk(machine(token), host(siblings)).made
    siblings.add_revocation(make_revocation(ANN.member_key, LAPTOP.node_id, issued_at=NOW))
    for each in (token, token_of(siblings, number=1)):
        assert talk(machine(each), host(siblings)).turned_away == "revoked"
    assert not siblings.admits(LAPTOP.node_id)


def test_a_host_hears_linking_only_in_order():
    """§4.13"""
    siblings, log = own_nodes(), new_group()
    admit(log, BOB)
    token = token_of(siblings)
    (hello,) = machine(token).open()
    (proof,) = machine(token).receive(pack(Challenge(nonce=secret("nonce", 1))))
    with pytest.raises(RemoteProtocolError):
        host(siblings).receive(proof.frame, now=NOW)
    door = host(siblings)
    door.receive(hello.frame, now=NOW)
    with pytest.raises(RemoteProtocolError):
        door.receive(hello.frame, now=NOW)
    (joining,) = joiner(None, BOB, group=log.group).open()
    door = host(siblings, logs=(log,))
    door.receive(hello.frame, now=NOW)
    with pytest.raises(RemoteProtocolError):
        door.receive(joining.frame, now=NOW)


@given(st.binary(max_size=300))
def test_whatever_a_stranger_says_a_host_says_no_or_hangs_up(garbage: bytes):
    """§4.13"""
    siblings = own_nodes()
    door = host(siblings)
    with pytest.raises(RemoteProtocolError):
        door.receive(garbage, now=NOW)
    assert list(siblings.certificates) == [ANN.node_id]


# --- hostile hosts -------------------------------------------------------------------------------------------------
def linked(**changes: object) -> bytes:
    """What an honest host says at the end, with changes."""
    siblings = own_nodes()
    frames = talk(machine(token_of(siblings)), host(siblings)).frames
    return pack(open_entrance_message(frames[-1]).model_copy(update=changes))


def challenged():
    guest = machine(token_of(None))
    guest.receive(pack(Challenge(nonce=secret("nonce", 1))))
    return guest


def test_a_machine_believes_the_members_signature_alone():
    """§10.7"""
    assert challenged().receive(linked())
    own = Person("laptop", member="ann")
    others = {
        "another member's": BOB.certificate,
        "another node's": TOWER.certificate,
        "another name": own.certificate,  # "laptop-node"
        "no certificate": b"",
    }
    for certificate in others.values():
        with pytest.raises(RemoteProtocolError):
            challenged().receive(linked(certificate=certificate))
    with pytest.raises(RemoteProtocolError):
        challenged().receive(linked(certificates=(BOB.certificate,)))
    revocations = [
        make_revocation(BOB.member_key, BOB.node_id, issued_at=NOW),
        make_revocation(ANN.member_key, LAPTOP.node_id, issued_at=NOW),
        make_revocation(ANN.member_key, ANN.node_id, issued_at=NOW),
    ]
    for revocation in revocations:
        with pytest.raises(RemoteProtocolError):
            challenged().receive(linked(revocations=(revocation,)))


def test_a_machine_is_not_turned_away_by_anothers_revocation():
    """§10.7"""
    for raw in (
        make_revocation(ANN.member_key, TOWER.node_id, issued_at=NOW),
        make_revocation(BOB.member_key, LAPTOP.node_id, issued_at=NOW),
    ):
        with pytest.raises(RemoteProtocolError):
            machine(token_of(None)).receive(pack(Revoked(revocation=raw)))


def test_a_host_that_does_not_keep_to_the_order_is_left():
    """§10.7"""
    with pytest.raises(RemoteProtocolError):
        machine(token_of(None)).receive(linked())  # unasked
    guest = challenged()
    with pytest.raises(RemoteProtocolError):
        guest.receive(pack(Challenge(nonce=bytes(32))))
    guest = challenged()
    guest.receive(linked())
    with pytest.raises(RemoteProtocolError):
        guest.receive(linked())


def test_the_answer_fits_a_frame_with_as_many_nodes_as_there_can_be():
    """§10.4: names of the longest, and half of the nodes revoked."""
    name = "\N{GRINNING FACE}" * 80
    siblings = Siblings(ANN.member_id)
    for number in range(NODES_EVER_MAX):
        node = Person(f"node-{number}", member="ann")
        raw = make_certificate(
            ANN.member_key,
            node.key,
            member_name=name,
            node_name=name,
            seal_key=seal_key_of(node.seal_secret),
            issued_at=NOW,
        )
        if number >= NODES_PER_MEMBER_MAX:
            siblings.add_revocation(make_revocation(ANN.member_key, node.node_id, issued_at=NOW))
        siblings.certificates[node.node_id] = raw
        if number < NODES_PER_MEMBER_MAX:
            siblings.add_revocation(make_revocation(ANN.member_key, node.node_id, issued_at=NOW))
    message = Linked(
        certificate=raw,
        certificates=tuple(siblings.certificates.values()),
        revocations=tuple(siblings.revocations.values()),
        groups=(STUDY,) * 256,
        known=(RECORD,),
    )
    assert isinstance(open_entrance_message(SendFrame(pack(message)).frame), Linked)
