"""Offers of a way for bulk bytes, and the tokens that prove who comes by it (docs/protocol.md §13)."""

from hashlib import sha256

import pytest

from protocol.bulk_ways import BulkOffer, BulkTokens, check_certificate, offer_frame, proof_of, read_offer
from protocol.errors import RemoteProtocolError
from protocol.keys import node_id_of
from protocol.limits import BULK_TOKEN_S, PEER_BULK_TOKENS_MAX

ANN, BOB = (node_id_of(bytes([number]) * 32) for number in (1, 2))
HERE, THERE = "192.0.2.1", "192.0.2.2"
CERTIFICATE = b"what would be a certificate"
OFFER = BulkOffer(certificate=sha256(CERTIFICATE).digest(), token=bytes(32))


def _token(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_an_offer_travels_and_so_does_none() -> None:
    """§13.2"""
    assert read_offer(offer_frame(OFFER)) == OFFER
    assert offer_frame(None) == b""
    assert read_offer(b"") is None


@pytest.mark.parametrize("change", [{"certificate": bytes(31)}, {"token": bytes(33)}])
def test_an_offer_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    """§13.2"""
    with pytest.raises(RemoteProtocolError):
        read_offer(offer_frame(OFFER.model_copy(update=change)))


def test_another_certificate_than_the_one_offered_is_refused() -> None:
    """§13.3"""
    check_certificate(OFFER, CERTIFICATE)
    for shown in (CERTIFICATE + b"!", b"", None):
        with pytest.raises(RemoteProtocolError, match="not the one that was offered"):
            check_certificate(OFFER, shown)


def test_a_token_names_the_peer_that_it_was_given_to_and_is_good_once() -> None:
    """§13.4"""
    tokens = BulkTokens()
    assert tokens.issue(ANN, HERE, _token(1), 0.0)
    assert tokens.issue(BOB, HERE, _token(2), 0.0)
    assert tokens.redeem(_token(2), 1.0) == BOB
    assert tokens.redeem(_token(1), 1.0) == ANN
    assert tokens.redeem(_token(1), 1.0) is None
    assert tokens.redeem(_token(3), 1.0) is None
    assert BulkTokens().redeem(_token(1), 1.0) is None  # another node's


def test_a_proof_is_of_one_token_between_two_nodes() -> None:
    """§13.5"""
    said = b"fednode/bulk-way/1\n" + _token(1) + ANN.encode() + b"\n" + BOB.encode()
    assert proof_of(_token(1), ANN, BOB) == sha256(said).digest()


def test_a_token_is_good_for_a_short_time() -> None:
    """§13.4"""
    tokens = BulkTokens()
    tokens.issue(ANN, HERE, _token(1), 0.0)
    tokens.issue(ANN, HERE, _token(2), 1.0)
    assert tokens.redeem(_token(1), BULK_TOKEN_S) is None
    assert tokens.redeem(_token(2), BULK_TOKEN_S) == ANN


def test_a_peer_has_few_tokens_that_it_has_not_come_with() -> None:
    """§13.2"""
    tokens = BulkTokens()
    given = [tokens.issue(ANN, HERE, _token(number), 0.0) for number in range(PEER_BULK_TOKENS_MAX + 1)]
    assert given == [True] * PEER_BULK_TOKENS_MAX + [False]
    assert tokens.issue(BOB, HERE, _token(100), 0.0)
    assert tokens.redeem(_token(0), 0.0) == ANN
    assert tokens.issue(ANN, HERE, _token(101), 0.0)
    assert tokens.outstanding(ANN, 0.0) == PEER_BULK_TOKENS_MAX
    assert tokens.outstanding(ANN, BULK_TOKEN_S) == 0


def test_the_tokens_of_who_is_put_out_are_void() -> None:
    """§13.7"""
    tokens = BulkTokens()
    tokens.issue(ANN, HERE, _token(1), 0.0)
    tokens.issue(BOB, HERE, _token(2), 0.0)
    tokens.forget(ANN)
    assert tokens.redeem(_token(1), 0.0) is None
    assert tokens.redeem(_token(2), 0.0) == BOB


def test_who_holds_a_token_is_expected_where_it_asked_from() -> None:
    """§13.6"""
    tokens = BulkTokens()
    tokens.issue(ANN, HERE, _token(1), 0.0)
    tokens.issue(BOB, HERE, _token(2), 0.0)
    assert tokens.expects(HERE, 0.0)
    assert not tokens.expects(THERE, 0.0)
    tokens.redeem(_token(1), 0.0)
    assert tokens.expects(HERE, 0.0)
    assert not tokens.expects(HERE, BULK_TOKEN_S)
