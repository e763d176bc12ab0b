"""What is remembered, and logged, of peers that speak another version. docs/protocol.md §11.2."""

import logging

import pytest

from node.network.versions import LINES_MAX, PEERS_MAX, Versions
from protocol.keys import NodeId

PEER = NodeId("12D3KooWPeer")


def test_a_peer_is_told_of_once_until_it_says_something_else(caplog: pytest.LogCaptureFixture) -> None:
    """§11.2"""
    versions = Versions((1,))
    for theirs in ((2,), (2,), (3,)):
        assert versions.note(PEER, theirs)
    assert len(caplog.records) == 2
    assert "speaks version 3" in versions.trouble(PEER)
    versions.agreed(PEER)
    assert versions.trouble(PEER) == ""


def test_whoever_changes_its_mind_without_end_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """§11.2: also by speaking our version in between; nor the memory, by many names."""
    caplog.set_level(logging.WARNING)
    versions = Versions((1,))
    for number in range(500):
        versions.note(PEER, (2 + number % 2,))
        versions.note(PEER, (1,))
    assert len(caplog.records) == LINES_MAX
    for number in range(2 * PEERS_MAX):
        versions.note(NodeId(f"12D3KooW{number}"), (2,))
    assert len(versions._theirs) == len(versions._lines) == PEERS_MAX
