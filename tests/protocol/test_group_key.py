"""The group's key (docs/protocol.md §5.7, §5.8)."""

import pytest
from group_helpers import ANN, BOB, GROUP_KEY, secret
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.group.key import (
    GOSSIP_PLAIN_BYTES_MAX,
    SEALED_KEY_BYTES,
    GroupKey,
    open_gossip,
    open_sealed,
    seal_gossip,
    seal_key_of,
    seal_to,
)
from protocol.keys import GroupId, seal_key_is_usable
from protocol.limits import GOSSIP_BYTES_MAX

GROUP, OTHER = GroupId("a" * 64), GroupId("b" * 64)
BOB_KEY = seal_key_of(BOB.seal_secret)
SEALED = seal_to(BOB_KEY, GROUP_KEY, GROUP, ephemeral_secret=secret("once"))
NONCE = bytes(range(12))
GOSSIP = seal_gossip(GROUP_KEY, GROUP, "operations", b"hello", nonce=NONCE)
KEYS = {1: GROUP_KEY}


def test_the_recipient_opens_it():
    """§5.7"""
    assert open_sealed(BOB.seal_secret, SEALED, GROUP, 1) == GROUP_KEY
    assert len(SEALED) == SEALED_KEY_BYTES
    assert GROUP_KEY.secret not in SEALED


@pytest.mark.parametrize(
    ("seal_secret", "group", "epoch"),
    [(ANN.seal_secret, GROUP, 1), (BOB.seal_secret, OTHER, 1), (BOB.seal_secret, GROUP, 2)],
)
def test_nobody_else_and_for_nothing_else(seal_secret: bytes, group: GroupId, epoch: int):
    """§5.7: one node, one group, one epoch."""
    with pytest.raises(RemoteProtocolError, match="sealed to somebody else"):
        open_sealed(seal_secret, SEALED, group, epoch)


def test_each_sealing_is_different():
    """§5.7: by its ephemeral secret."""
    assert seal_to(BOB_KEY, GROUP_KEY, GROUP, ephemeral_secret=secret("twice")) != SEALED


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31), b"short", b""])
def test_keys_that_give_no_secret_are_refused(key: bytes):
    """§1.8, §5.7: points of small order, and what is no point."""
    assert not seal_key_is_usable(key)
    with pytest.raises(RemoteProtocolError):
        seal_to(key, GROUP_KEY, GROUP, ephemeral_secret=secret("once"))
    with pytest.raises(RemoteProtocolError):
        open_sealed(BOB.seal_secret, key + SEALED[32:], GROUP, 1)


@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7))
def test_a_flipped_bit_in_a_sealed_key_is_refused(place: int, bit: int):
    """§5.7: also the one bit of the ephemeral key that X25519 itself does not look at."""
    flipped = bytearray(SEALED)
    flipped[place] ^= 1 << bit
    with pytest.raises(RemoteProtocolError):
        open_sealed(BOB.seal_secret, bytes(flipped), GROUP, 1)


def test_gossip_round_trips():
    """§5.8"""
    assert open_gossip(KEYS, GROUP, "operations", GOSSIP) == b"hello"
    assert b"hello" not in GOSSIP


@pytest.mark.parametrize(
    ("keys", "group", "topic"),
    [
        ({}, GROUP, "operations"),
        ({2: GroupKey(2, GROUP_KEY.secret)}, GROUP, "operations"),
        ({1: GroupKey(1, secret("other"))}, GROUP, "operations"),
        (KEYS, OTHER, "operations"),
        (KEYS, GROUP, "presence"),
    ],
)
def test_gossip_is_for_one_group_topic_and_epoch(keys: dict[int, GroupKey], group: GroupId, topic: str):
    """§5.8"""
    with pytest.raises(RemoteProtocolError):
        open_gossip(keys, group, topic, GOSSIP)


@given(st.integers(0, len(GOSSIP) - 1), st.integers(0, 7))
def test_a_flipped_bit_in_gossip_is_refused(place: int, bit: int):
    """§5.8"""
    flipped = bytearray(GOSSIP)
    flipped[place] ^= 1 << bit
    with pytest.raises(RemoteProtocolError):
        open_gossip(KEYS, GROUP, "operations", bytes(flipped))


def test_the_longest_gossip_fits():
    """§5.8: and one byte more is a bug of ours."""
    longest = seal_gossip(GROUP_KEY, GROUP, "operations", bytes(GOSSIP_PLAIN_BYTES_MAX), nonce=NONCE)
    assert len(longest) <= GOSSIP_BYTES_MAX
    with pytest.raises(LocalProtocolError, match="over the limit"):
        seal_gossip(GROUP_KEY, GROUP, "operations", bytes(GOSSIP_PLAIN_BYTES_MAX + 1), nonce=NONCE)


def test_secrets_are_not_shown():
    """§5.7: in a traceback or a log line."""
    assert "secret" not in repr(GROUP_KEY)
