"""Address records and the messages that ask for them (docs/protocol.md §12)."""

import pytest
from entrance_helpers import host, joiner, talk, token
from group_helpers import ANN, BOB, CAT, EVE, address_record, admit, new_group
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteProtocolError
from protocol.group.address_record import (
    AddressesAsked,
    AddressesTold,
    AddressRecord,
    Held,
    is_newer,
    open_address_message,
    open_address_record,
    records_of_nodes,
)
from protocol.group.presence import PRESENCE_TAG
from protocol.limits import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX, KNOWN_ADDRESSES_MAX
from protocol.signing import sign
from protocol.wire import pack

LONGEST = tuple(f"/dns4/{'x' * (ADDRESS_CHARACTERS_MAX - 15)}/tcp/{port}" for port in range(4000, 4000 + ADDRESSES_MAX))


def test_a_record_is_opened_as_it_was_signed():
    """§12.1"""
    record = open_address_record(
        address_record(ANN, ("/ip4/192.0.2.7/tcp/4001",), ("/ip4/192.0.2.7/tcp/4002",), sequence=7)
    )
    assert (record.node_id, record.sequence) == (ANN.node_id, 7)
    assert record.where().addresses == ("/ip4/192.0.2.7/tcp/4001",)
    assert record.where().entrance_addresses == ("/ip4/192.0.2.7/tcp/4002",)


def test_nobody_says_where_another_node_is():
    """§12.1: not with a good signature of its own either."""
    with pytest.raises(RemoteProtocolError, match="said where node"):
        open_address_record(address_record(ANN, key=EVE.key))


def test_a_record_that_was_altered_is_worth_nothing():
    """§12.1: at any place; nor is a signature that was made for something else."""
    raw = address_record(ANN)
    for place in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            open_address_record(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with pytest.raises(RemoteProtocolError, match="where 'addresses' belongs"):
        open_address_record(sign(ANN.key, PRESENCE_TAG, open_address_record(raw)))


def test_the_longest_record_fits_and_more_addresses_do_not():
    """§12.1"""
    assert open_address_record(address_record(ANN, LONGEST, LONGEST)).addresses == LONGEST
    one_more = AddressRecord.model_construct(
        node_id=ANN.node_id, addresses=(*LONGEST, "/x"), entrance_addresses=(), sequence=1
    )
    with pytest.raises(RemoteProtocolError, match="does not fit"):
        open_address_record(sign(ANN.key, "addresses", one_more))


@given(st.permutations([3, 5, 5, 9, 12]))
def test_the_highest_sequence_counts_in_any_order(sequences: list[int]):
    """§12.2"""
    newest = None
    for sequence in sequences:
        record = open_address_record(address_record(ANN, sequence=sequence))
        if is_newer(record, newest):
            newest = record
    assert newest is not None
    assert newest.sequence == 12


def test_only_good_records_of_nodes_of_the_group_count():
    """§12.3: and one that is bad does not keep out the others."""
    log = new_group()
    admit(log, BOB)
    good = (address_record(ANN), address_record(BOB))
    told = (good[0], b"nonsense", address_record(EVE), address_record(BOB, key=EVE.key), good[1], good[0][:-1] + b"\0")
    assert records_of_nodes(told, log.state()) == good


def test_a_joiner_takes_no_address_of_a_stranger_from_its_admitter():
    """§12.3: the admitter hands on what it likes; what the named nodes have not signed is left out."""
    log = new_group()
    invitation = token(log)
    forged = address_record(BOB, ("/ip4/198.51.100.9/tcp/22",), key=ANN.key)
    result = talk(joiner(invitation), host(log, known=(address_record(ANN), forged, address_record(EVE))))
    assert result.joined is not None
    assert result.joined.known == (address_record(ANN),)


def test_questions_and_answers_are_bounded():
    """§12.4"""
    group = new_group().group
    asked = AddressesAsked(
        group=group, nodes=(Held(node_id=ANN.node_id, sequence=-1), Held(node_id=CAT.node_id, sequence=4))
    )
    assert open_address_message(pack(asked)) == asked
    told = AddressesTold(group=group, records=(address_record(ANN, LONGEST, LONGEST),) * KNOWN_ADDRESSES_MAX)
    assert open_address_message(pack(told)) == told
    many = AddressesTold.model_construct(type="told", group=group, records=(b"x",) * (KNOWN_ADDRESSES_MAX + 1))
    with pytest.raises(RemoteProtocolError, match="does not fit"):
        open_address_message(pack(many))
    with pytest.raises(RemoteProtocolError):
        open_address_message(b"\xc1")
