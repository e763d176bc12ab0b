"""Node certificates and the fields that names go through (docs/protocol.md §1)."""

import pytest
from group_helpers import ANN, BOB, NOW, Person, new_group, secret
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import Name, require_name
from protocol.group.key import seal_key_of
from protocol.identity import CERTIFICATE_TAG, NodeCertificate, open_certificate
from protocol.keys import base58, member_public_key, node_public_key, public_key_of, unbase58
from protocol.signing import Envelope, sign
from protocol.wire import Wire, pack, pack_plain, unpack


class Badge(Wire):
    name: Name


def resigned(person: Person, signer: Person, **changes: object) -> bytes:
    """Person's certificate with `changes`, signed by the signer's member key."""
    return sign(signer.member_key, CERTIFICATE_TAG, open_certificate(person.certificate).model_copy(update=changes))


def test_a_certificate_says_who_owns_a_node():
    """§1.6: it is signed by the member, and gives both names and the key to seal things to."""
    certificate = open_certificate(ANN.certificate)
    assert (certificate.member_id, certificate.node_id) == (ANN.member_id, ANN.node_id)
    assert (certificate.member_name, certificate.node_name) == ("ann", "ann-node")
    assert certificate.seal_key == seal_key_of(ANN.seal_secret)
    assert certificate.issued_at == NOW


def test_names_hold_the_public_key_and_have_one_spelling():
    """§1.1: either name holds the whole public key; another spelling of it is refused."""
    assert node_public_key(ANN.node_id) == public_key_of(ANN.key)
    assert member_public_key(ANN.member_id) == public_key_of(ANN.member_key)
    for bad in ("", "1" + ANN.node_id, ANN.node_id[:-1], ANN.member_id, "0" * 52):
        with pytest.raises(RemoteProtocolError):
            node_public_key(bad)
    for bad in ("M", "M1" + ANN.member_id[1:], ANN.member_id[1:], ANN.node_id):
        with pytest.raises(RemoteProtocolError):
            member_public_key(bad)


@given(st.binary(max_size=64))
def test_base58_round_trip(data: bytes):
    """§1.1: the spelling is a bijection."""
    assert unbase58(base58(data)) == data


def test_a_certificate_needs_the_members_signature():
    """§1.6: nobody puts a node under another member's name."""
    with pytest.raises(RemoteProtocolError, match="signed by somebody else"):
        open_certificate(resigned(ANN, BOB))


@pytest.mark.parametrize(
    "changes",
    [
        {"member_id": BOB.member_id},
        {"node_id": BOB.node_id},
        {"seal_key": seal_key_of(secret("other"))},
        {"node_consent": bytes(64)},
    ],
)
def test_a_certificate_needs_the_nodes_consent(changes: dict[str, object]):
    """§1.7: a member cannot claim a node whose key it does not have, nor exchange what the node agreed to."""
    signer = BOB if "member_id" in changes else ANN
    with pytest.raises(RemoteProtocolError, match="never agreed"):
        open_certificate(resigned(ANN, signer, **changes))


def test_a_seal_key_without_a_secret_is_refused():
    """§1.8: the point of order 1 would make everything sealed to it readable."""
    zero = bytes(32)
    consent = b"fednode/node-consent/1\n" + f"{ANN.member_id}\n{ANN.node_id}\n".encode() + zero
    raw = resigned(ANN, ANN, seal_key=zero, node_consent=ANN.key.sign(consent))
    with pytest.raises(RemoteProtocolError, match="Nothing can be sealed"):
        open_certificate(raw)


@pytest.mark.parametrize("name", ["", " ann", "ann ", "a\nb", "a\x1b[31m", "a\u202eb", "a\u200bb", "a" * 81])
def test_names_that_would_fool_a_reader_are_refused(name: str):
    """§1.5: no control, invisible or direction-turning characters, no spaces at the ends, no excess."""
    with pytest.raises(RemoteProtocolError):
        unpack(Badge, pack(Badge.model_construct(name=name)), 1000)


@pytest.mark.parametrize("name", ["ann", "Städtisches Klinikum", "病院", "a" * 80, "l'hôpital 2"])
def test_names_of_all_languages_are_taken(name: str):
    """§1.5: everything else is a name."""
    assert unpack(Badge, pack(Badge(name=name)), 1000).name == name


@given(st.data())
def test_a_certificate_with_a_flipped_bit_is_refused(data: st.DataObject):
    """§1.3: every byte of the envelope is covered."""
    raw = bytearray(ANN.certificate)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(RemoteProtocolError):
        open_certificate(bytes(raw))


def test_a_certificate_for_another_purpose_is_refused():
    """§1.3: the tag is part of what is signed."""
    body = open_certificate(ANN.certificate)
    with pytest.raises(RemoteProtocolError, match="'presence'"):
        open_certificate(sign(ANN.member_key, "presence", body))
    envelope = unpack(Envelope, ANN.certificate, 10_000)
    with pytest.raises(RemoteProtocolError, match="signature"):
        open_certificate(pack(Envelope(t=CERTIFICATE_TAG, v=1, b=envelope.b, k=envelope.k, s=bytes(64))))


def test_fields_are_closed_and_strict():
    """§1.2: unknown, missing and mistyped fields are refused."""
    fields = open_certificate(ANN.certificate).model_dump()
    for broken in ({**fields, "more": 1}, {**fields, "issued_at": "7"}, {**fields, "issued_at": True}):
        with pytest.raises(RemoteProtocolError):
            unpack(NodeCertificate, pack_plain(broken), 10_000)
    del fields["node_name"]
    with pytest.raises(RemoteProtocolError, match="node_name"):
        unpack(NodeCertificate, pack_plain(fields), 10_000)


@pytest.mark.parametrize("name", ["", " ", "a" * 81, "a\x07", "\udcff"])
def test_a_bad_name_is_told_to_whoever_chose_it(name: str):
    """§1.5: before anything is signed."""
    with pytest.raises(Refused, match=r"cannot be the name of a group.*choose another"):
        new_group(name=name)
    assert require_name("Klinikum Süd", "a member") == "Klinikum Süd"
