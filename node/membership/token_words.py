"""What a token says, explained without using it: by `fednode token show`, and when one is made.

From the token alone: nothing is asked and nothing dialled, so whether it was used or revoked meanwhile is not known.
"""

from collections.abc import Sequence
from typing import Any

from node.network.reach import reach_of, warning_about
from protocol.entrance.device_link import open_device_token
from protocol.entrance.invitation import Invitation, read_token
from protocol.fields import NodeAddresses
from protocol.times import ago_text, clock_text
from protocol.token_text import DEVICE_LINK, kind_of
from tracker.tables.rows import iso

Json = dict[str, Any]

_NOT_KNOWN = "whether it was used or revoked meanwhile; only a node of the group knows"
_NOT_KNOWN_OF_LINK = "whether it was used meanwhile; only the node that made it knows"


def token_view(text: str, *, now: int) -> Json:
    """The TOKEN of docs/api.md: of an invitation or of a device token, expired or not. `now`: seconds since 1970.

    Raises Refused where the text is no token, mistyped, cut short or forged.
    """
    view = _device_view(text) if kind_of(text) is DEVICE_LINK else _invitation_view(read_token(text))
    expires_at = view.pop("_expires_at")
    good = now <= expires_at
    expired = "not expired" if good else f"expired {ago_text(expires_at, now)}"
    clock = f"{expired}; by this machine's clock it is {clock_text(now)}"
    view["checks"].append({"good": good, "text": clock})
    return {**view, "state": "valid" if good else "expired", "expires_at": iso(expires_at)}


def _invitation_view(invitation: Invitation) -> Json:
    return {
        "kind": "invitation",
        "group": invitation.group_name,
        "group_id": invitation.group,
        "inviter": invitation.inviter,
        "invite_id": invitation.invite_id,
        "role": invitation.role,
        "uses": invitation.uses,
        "checks": _sound("signed by the inviter's node, and not altered since"),
        "not_known": _NOT_KNOWN,
        "_expires_at": invitation.expires_at,
        **reach_view(invitation.entrances),
    }


def _device_view(text: str) -> Json:
    token = open_device_token(text, now=None)
    return {
        "kind": "device",
        "member": token.member_name,
        "member_id": token.member_id,
        "link_id": token.link_id,
        "uses": 1,
        "checks": _sound("signed by the member whose node it makes, and not altered since"),
        "not_known": _NOT_KNOWN_OF_LINK,
        "_expires_at": token.expires_at,
        **reach_view((token.host,), is_link=True),
    }


def _sound(signed: str) -> list[Json]:
    """What opening it has proved."""
    return [{"good": True, "text": "whole, and not mistyped"}, {"good": True, "text": signed}]


def reach_view(entrances: Sequence[NodeAddresses], *, is_link: bool = False) -> Json:
    """Where a token's holder knocks, how far each address reaches, and a warning where that is not far. `is_link`: of a
    device token."""
    addresses = [address for entrance in entrances for address in entrance.entrance_addresses]
    return {
        "entrances": [
            {
                "node_id": entrance.node_id,
                "addresses": [
                    {"address": address, "reach": reach_of(address)} for address in entrance.entrance_addresses
                ],
            }
            for entrance in entrances
        ],
        "warning": warning_about(addresses, is_link=is_link),
    }
