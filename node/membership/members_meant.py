"""Which member of a group people mean by what they write: an id, a name, a node of theirs, or an id's beginning.

One rule for the node, which does it, and for the command line, which first says what is going to be done to whom.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from node.names import PREFIX_CHARACTERS_MIN
from protocol.errors import Refused

Json = Mapping[str, Any]
MEMBER_ID_SHOWN = 12  # 64 bits of the key: nobody makes a key for which these are the same
_NAMED_MAX = 6  # members in a refusal: more are in fednode group show


class NoSuchMember(Refused):
    """Nobody in the group answers to the name."""


def member_meant(group: str, members: Sequence[Json], text: str) -> Json:
    """The one of `members`, as docs/api.md has them, that is meant by `text`. `group`: its name.

    A member's id goes before its name, and that before its node's name: nobody makes another's name unclear by giving a
    node that name. Raises NoSuchMember, and Refused where several are called so, which it tells apart.
    """
    rules: tuple[Callable[[Json], bool], ...] = (
        lambda each: each["member_id"] == text or any(node["node_id"] == text for node in each["nodes"]),
        lambda each: each["name"] == text,
        lambda each: str(each["name"]).casefold() == text.casefold(),
        lambda each: any(node["name"] == text for node in each["nodes"]),
        lambda each: len(text) >= PREFIX_CHARACTERS_MIN and str(each["member_id"]).startswith(text),
    )
    found = next((matching for rule in rules if (matching := [each for each in members if rule(each)])), [])
    if not found:
        names = ", ".join(str(each["name"]) for each in members)
        raise NoSuchMember("no-such-member", f"{group} has no member {text!r}; it has: {names}", remedy="name one")
    if len(found) > 1:
        told = "; ".join(_told_apart(each) for each in found[:_NAMED_MAX])
        more = f"; and {len(found) - _NAMED_MAX} more" if len(found) > _NAMED_MAX else ""
        raise Refused(
            "ambiguous",
            f"{len(found)} members are called {text!r}: {told}{more}",
            remedy="give the member's id, or so much of its beginning as stands here; whose id is whose, only the "
            "people themselves can tell you",
        )
    return found[0]


def short_member(member_id: str) -> str:
    return member_id[:MEMBER_ID_SHOWN]


def _told_apart(member: Json) -> str:
    nodes = ", ".join(str(node["name"]) for node in member["nodes"]) or "no node"
    since = str(member["admitted_at"] or "")[:16].replace("T", " ")
    admitted = f", admitted {since} UTC" if since else ""
    return f"{short_member(member['member_id'])} ({member['name']}, {member['role']}, nodes: {nodes}{admitted})"
