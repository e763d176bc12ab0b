"""Strangers with tokens that must let nobody in: forged, revoked, expired, used up. Each is a whole node that joins as
a person would, again and again, so that both ends run their own code.
"""

import logging

import trio

from node.node import Node
from protocol.entrance.invitation import Invitation, TokenBody, make_token, read_token
from protocol.errors import FednodeError
from protocol.fields import NodeAddresses
from protocol.keys import NodeId
from simulations.nodes.simulated_node import SimulatedNode
from simulations.world.network import SimulatedWorld

log = logging.getLogger("fednode.simulated")

TRY_EVERY_S = 7.0  # more often than an entrance takes it from one address, so that some are refused for that
EXPIRES_S = 1  # of the token that is to expire
LATE_S = 86_400.0  # of the clock of who holds it: else its own node would refuse the token, and nobody be asked
TOKEN_TRICKS = ("forged-token", "revoked-token", "expired-token", "used-token")


async def token_for(trick: str, founder: Node, joiners_token: str) -> str:
    """A token of this kind, made by the founder's own node and spoilt. `joiners_token`: the one that joiners use, or
    "". Waits until it is what it should be: used up, say."""
    place = next(iter(founder.groups.places.values()))
    if trick == "used-token":
        while not _is_used_up(founder, joiners_token):
            await trio.sleep(TRY_EVERY_S)
        return joiners_token
    _, token = await founder.groups.invite(place, "member", 1, EXPIRES_S if trick == "expired-token" else 86_400)
    if trick == "revoked-token":
        invitation = read_token(token)
        await founder.service.memberships.revoke(place.group, invitation.invite_id)
    if trick == "expired-token":
        await trio.sleep(EXPIRES_S + 1)
    return token


def _is_used_up(founder: Node, token: str) -> bool:
    if not token:
        return False
    place = next(iter(founder.groups.places.values()))
    entry = place.state().invitations.get(read_token(token).invite_id)
    return entry is not None and entry.used >= entry.uses


async def knock(node: SimulatedNode, trick: str, token: str, world: SimulatedWorld, victims: list[NodeId]) -> None:
    """Live, and try to join with `token` until cancelled. Whether it got in, only the group can say."""
    if trick == "expired-token":
        node.clock_late_s = LATE_S
    async with trio.open_nursery() as nursery:
        live: Node = await nursery.start(node.live)
        text = _forged(node, token, world, victims) if trick == "forged-token" else token
        while True:
            try:
                await live.service.join(text)
                return  # the invariants will say so
            except FednodeError as refused:
                log.info("%s with its %s: %s", node.name, trick, refused)
            await trio.sleep(TRY_EVERY_S)


def _forged(node: SimulatedNode, token: str, world: SimulatedWorld, victims: list[NodeId]) -> str:
    """A token by the stranger's own hand: of the true group and invitation, with a seed of its own."""
    true: Invitation = read_token(token)
    entrances = tuple(
        NodeAddresses(node_id=victim, addresses=(), entrance_addresses=world.addresses_of(victim)[1])
        for victim in victims[:3]
    )
    body = TokenBody(
        group=bytes.fromhex(true.group),
        group_name=true.group_name,
        invite=bytes.fromhex(true.invite_id),
        seed=node.keys.random.randbytes(32),
        role="admin",
        uses=true.uses,
        expires_at=true.expires_at,
        entrances=entrances,
    )
    return make_token(node.keys.key, body)
