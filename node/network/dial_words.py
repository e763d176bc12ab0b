"""Why an address did not lead to the node that was looked for, in words: of what systems and handshakes say.

One table for the doctor and for whoever knocks with a token. For people; nothing is decided by it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

OFF = "see that it runs there (fednode status), and that a firewall lets its port through"
_REASONS_SHOWN = 6  # different ones, in one sentence


class Reason(NamedTuple):
    """`pattern`: of what was said. `words`: of one address. `remedy`: for whoever looks for that node."""

    pattern: str
    words: str
    remedy: str


# In the order of what tells most.
REASONS: tuple[Reason, ...] = (
    Reason(
        r"does not correspond|mismatch",
        "another node answers at its address",
        "another node has that address now, or somebody stands in between; ask its owner where it is",
    ),
    Reason(
        r"delimited|multiselect|multistream|multicodec|varint|Noise|handshake|InvalidTag",
        "something else than fednode answers at that port",
        "see that the port is this node's, and not that of another program there",
    ),
    Reason(
        r"refused|Errno (111|61)\b",
        "its machine answers and nobody listens at that port",
        "start it there (fednode start); if it runs, its port has changed and the next announcement tells",
    ),
    Reason(
        r"No route|unreachable|Errno (101|113|51|65)\b",
        "there is no way to its network",
        "see this machine's network, VPN and routes",
    ),
    Reason(r"Name or service|resol|nodename", "its name is not known", "see that the name in its address is right"),
    Reason(
        r"no answer|timed out|did not answer|did not finish|Errno (110|60)\b",
        "nothing comes back from there: the machine is off, or a firewall drops what we send",
        OFF,
    ),
)


def reason_of(said: str) -> Reason | None:
    """What `said`, the words of a system or a library, comes to; None where it is none of the known ones."""
    return next((reason for reason in REASONS if re.search(reason.pattern, said, re.IGNORECASE)), None)


def tried_in_words(tried: Sequence[str]) -> list[str]:
    """`tried`: each "ADDRESS: what was said". Addresses of which the same is to be said stand together."""
    places: dict[str, list[str]] = {}
    for entry in tried:
        address, _, said = entry.partition(": ")
        reason = reason_of(said)
        places.setdefault(reason.words if reason else said, []).append(address)
    return [
        f"{', '.join(dict.fromkeys(where))}{': ' * bool(words)}{words}"
        for words, where in list(places.items())[:_REASONS_SHOWN]
    ]
