"""Which versions of the protocol a node speaks, how it says so to one that speaks another, and what people are told.

The text that says it has no version itself and never changes: decimal numbers, rising, with commas between.
"""

import re

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId

PROTOCOL_VERSION = 1  # in the name of every protocol that nodes speak with each other
VERSIONS_BYTES_MAX = 64
_NUMBERS = re.compile(rb"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*")


def versions_text(versions: tuple[int, ...]) -> bytes:
    return ",".join(map(str, versions)).encode()


def read_versions(text: bytes) -> tuple[int, ...]:
    """What `versions_text` wrote, on whatever version's machine. Raises RemoteProtocolError."""
    if len(text) > VERSIONS_BYTES_MAX or not _NUMBERS.fullmatch(text):
        raise RemoteProtocolError("What should say which versions of the protocol it speaks says something else")
    numbers = tuple(map(int, text.split(b",")))
    if list(numbers) != sorted(set(numbers)):
        raise RemoteProtocolError("The versions of the protocol that it speaks are not in order")
    return numbers


def version_trouble(peer: NodeId, theirs: tuple[int, ...], ours: tuple[int, ...]) -> tuple[str, str] | None:
    """What keeps two nodes from speaking with each other, and what to do; None where they have a version in common."""
    if set(theirs) & set(ours):
        return None
    what = f"Node {peer} speaks version {max(theirs)} of fednode's protocol, and this node version {max(ours)}"
    older = "this node" if max(ours) < max(theirs) else f"node {peer}"
    return what, f"upgrade fednode on {older}"
