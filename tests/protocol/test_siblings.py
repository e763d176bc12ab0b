"""What a member's nodes know of each other, sans-I/O: the set that only grows, and a sibling's knock. docs/protocol.md
§10.8, §10.10, §10.11."""

from dataclasses import replace

import pytest
from group_helpers import ANN, BOB, NOW, Person, secret
from hypothesis import given
from hypothesis import strategies as st
from link_helpers import LAPTOP, PHONE, RECORD, TOWER, host, own_nodes, talk

from protocol.entrance.introducing import Welcomed
from protocol.entrance.linking import ShutOut, SiblingKnock
from protocol.entrance.messages import Challenge, Revoked
from protocol.entrance.siblings import NODES_EVER_MAX, SIBLING_NEWS_BYTES_MAX, SiblingNews, Siblings
from protocol.errors import RemoteProtocolError
from protocol.identity import make_revocation
from protocol.wire import pack, unpack


def revocation_of(node: Person, *, by: Person = ANN) -> bytes:
    return make_revocation(by.member_key, node.node_id, issued_at=NOW)


# --- the set -------------------------------------------------------------------------------------------------------
def test_only_what_the_member_has_signed_gets_in():
    """§10.8"""
    siblings = own_nodes()
    for certificates, revocations in (
        ((BOB.certificate,), ()),
        ((LAPTOP.certificate, BOB.certificate), ()),
        ((), (revocation_of(BOB, by=BOB),)),
        ((), (revocation_of(ANN, by=BOB),)),
        ((b"garbage",), ()),
        ((), (LAPTOP.certificate,)),
    ):
        with pytest.raises(RemoteProtocolError):
            siblings.add_all(certificates, revocations)
    assert list(siblings.certificates) == [ANN.node_id]
    assert not siblings.revocations
    with pytest.raises(RemoteProtocolError):
        siblings.add_certificate(BOB.certificate)
    with pytest.raises(RemoteProtocolError):
        siblings.add_revocation(revocation_of(BOB, by=BOB))


def test_a_revocation_wins_for_ever():
    """§10.8: whatever comes first, and whatever certificate comes later."""
    newer = replace(LAPTOP, issued_at=NOW + 1000)
    first = own_nodes(LAPTOP)
    assert first.admits(LAPTOP.node_id)
    assert first.add_revocation(revocation_of(LAPTOP))
    assert not first.admits(LAPTOP.node_id)
    first.add_certificate(newer.certificate)
    assert not first.admits(LAPTOP.node_id)
    second = own_nodes()
    second.add_all([newer.certificate], [revocation_of(LAPTOP)])
    assert not second.admits(LAPTOP.node_id)
    assert first.digest() == second.digest()
    assert not second.add_revocation(revocation_of(LAPTOP))  # no news


def test_the_newer_certificate_of_a_node_counts():
    """§10.8"""
    newer = replace(LAPTOP, issued_at=NOW + 1)
    siblings = own_nodes(LAPTOP)
    assert siblings.add_certificate(newer.certificate)
    assert not siblings.add_certificate(LAPTOP.certificate)
    assert siblings.certificates[LAPTOP.node_id] == newer.certificate


def test_there_is_an_end_to_what_is_kept():
    """§10.4"""
    siblings = own_nodes()
    for number in range(NODES_EVER_MAX + 2):
        node = Person(f"node-{number}", member="ann")
        siblings.add_certificate(node.certificate)
        siblings.add_revocation(revocation_of(node))
    assert len(siblings.certificates) == NODES_EVER_MAX
    assert len(siblings.revocations) == NODES_EVER_MAX - 1
    assert siblings.add_revocation(revocation_of(ANN))  # of a node that is known there is always room for it


# --- news ----------------------------------------------------------------------------------------------------------
SAID = [
    (Siblings.add_certificate, each.certificate) for each in (LAPTOP, TOWER, PHONE, replace(LAPTOP, issued_at=NOW + 9))
] + [(Siblings.add_revocation, revocation_of(each)) for each in (TOWER, PHONE)]


def news(siblings: Siblings, *, full: bool = True, opens: bool = True) -> SiblingNews:
    message = SiblingNews(
        opens=opens,
        digest=siblings.digest(),
        certificates=tuple(siblings.certificates.values()) if full else (),
        revocations=tuple(siblings.revocations.values()) if full else (),
        holds_member_key=False,
        known=(RECORD,),
    )
    return unpack(SiblingNews, pack(message), SIBLING_NEWS_BYTES_MAX)


@given(st.lists(st.sampled_from(SAID)), st.lists(st.sampled_from(SAID)))
def test_two_that_tell_each_other_hold_the_same(one: list, other: list):
    """§10.11: whatever each has heard, and in whatever order, one message and its answer are enough."""
    first, second = own_nodes(), own_nodes()
    for siblings, heard in ((first, one), (second, other)):
        for add, raw in heard:
            add(siblings, raw)
    second.add_all(news(first).certificates, news(first).revocations)
    if second.lacks(news(first)):
        answer = news(second, opens=False)
        first.add_all(answer.certificates, answer.revocations)
        assert not first.lacks(answer)  # and that is the end
    assert first.digest() == second.digest()
    assert first.certificates == second.certificates
    assert first.revocations.keys() == second.revocations.keys()


def test_a_message_has_an_end():
    """§10.11"""
    with pytest.raises(RemoteProtocolError):
        unpack(SiblingNews, bytes(SIBLING_NEWS_BYTES_MAX + 1), SIBLING_NEWS_BYTES_MAX)


# --- a knock -------------------------------------------------------------------------------------------------------
def test_a_sibling_that_nobody_has_heard_of_shows_its_certificate():
    """§10.10"""
    siblings = own_nodes()
    result = talk(SiblingKnock(LAPTOP.certificate), host(siblings))
    assert isinstance(result.outcome, Welcomed)
    assert siblings.admits(LAPTOP.node_id)
    assert result.kept == 1
    assert talk(SiblingKnock(LAPTOP.certificate), host(siblings)).kept == 0  # nothing new


def test_who_shows_anothers_certificate_is_no_sibling():
    """§10.10"""
    siblings = own_nodes()
    for who, certificate in ((PHONE, LAPTOP.certificate), (BOB, BOB.certificate)):
        assert talk(SiblingKnock(certificate), host(siblings, peer=who)).turned_away == "not-a-sibling"
    assert list(siblings.certificates) == [ANN.node_id]


def test_a_revoked_sibling_is_told_by_its_revocation():
    """§10.10"""
    siblings = own_nodes(LAPTOP)
    siblings.add_revocation(revocation_of(LAPTOP))
    result = talk(SiblingKnock(LAPTOP.certificate), host(siblings))
    assert result.outcome == ShutOut(revocation_of(LAPTOP))
    assert result.kept == 0
    assert result.closed is not None
    assert result.closed.refused is not None
    assert result.closed.refused.code == "revoked"


def test_nobody_believes_a_revocation_that_its_member_has_not_signed():
    """§10.10"""
    for raw in (revocation_of(LAPTOP, by=BOB), revocation_of(TOWER), b"garbage"):
        with pytest.raises(RemoteProtocolError):
            SiblingKnock(LAPTOP.certificate).receive(pack(Revoked(revocation=raw)))
    with pytest.raises(RemoteProtocolError):
        SiblingKnock(LAPTOP.certificate).receive(pack(Challenge(nonce=secret("nonce"))))
