"""What the card of a node says of the way to it."""

from tui.facts.nodes import Link
from tui.views.node_card import link_text


def test_blobs_that_come_the_slow_way_are_named() -> None:
    told = {"rtt_s": 0.012, "bytes_sent": 5, "bytes_received": 7, "path": "direct"}
    assert link_text(Link.of({**told, "blobs_by": "tls"})) == link_text(Link.of(told))
    assert link_text(Link.of({**told, "blobs_by": "libp2p"})) == f"{link_text(Link.of(told))}, blobs over libp2p"
