"""A member's own nodes and its profile, as people see and change them through the local API (docs/api.md)."""

from typing import TYPE_CHECKING

import trio

from node.api.service.service import Json, NotFound
from node.membership.siblings import name_of
from node.membership.token_words import reach_view
from node.names import id_named
from protocol.entrance.device_link import open_device_token
from protocol.identity import open_certificate
from protocol.keys import NodeId
from tracker.tables.rows import iso

if TYPE_CHECKING:
    from node.node import Node


class OwnNodes:
    """See node.api.service.nodes.OwnNodesService, which says what every method does."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def listed(self) -> Json:
        """This node first, then the others by name, and who is revoked last."""
        identity, known = self._node.identity, self._node.siblings.known
        ids = dict.fromkeys([identity.node_id, *known.certificates, *known.revocations])
        nodes = [self._view(node) for node in ids]
        return {
            "member_id": identity.member_id,
            "member": self._node.profile.name,
            "holds_member_key": identity.keys.member is not None,
            "nodes": sorted(
                nodes, key=lambda view: (view["revoked_at"] is not None, not view["is_self"], view["name"])
            ),
            "links": [
                {
                    "link_id": link.link_id,
                    "expires_at": iso(link.expires_at),
                    "used_by": link.used_by and name_of(known, link.used_by),
                    "revoked": link.revoked,
                }
                for link in known.links.values()
            ],
        }

    def _view(self, node: NodeId) -> Json:
        own, is_self = self._node.siblings, node == self._node.identity.node_id
        raw, revocation = own.known.certificates.get(node), own.known.revocation(node)
        heard = self._node.links.last_heard(node)
        ago = None if heard is None else trio.current_time() - heard
        holds = self._node.identity.keys.member is not None if is_self else node in own.key_holders
        places = [place for place in self._node.groups.places.values() if place.state().admits(node)]
        return {
            "node_id": node,
            "name": self._node.identity.name if is_self else name_of(own.known, node),
            "is_self": is_self,
            "holds_member_key": holds,
            "issued_at": None if raw is None else iso(open_certificate(raw).issued_at),
            "connected": is_self or node in self._node.groups.connected,
            "last_heard_at": iso(self._node.now()) if is_self else None if ago is None else iso(self._node.now() - ago),
            "groups": [place.state().name for place in places],
            "revoked_at": None if revocation is None else iso(revocation.issued_at),
        }

    async def link(self, expires_s: int) -> Json:
        made = await self._node.linker.make(expires_s)
        warning = reach_view((open_device_token(made.token, now=None).host,), is_link=True)["warning"]
        return {
            "link_id": made.link_id,
            "token": made.token,
            "expires_at": iso(made.expires_at),
            "warning": warning,
        }

    async def revoke_link(self, link: str) -> Json:
        links = self._node.siblings.known.links
        found = id_named(link, dict.fromkeys(links, "")) if link else None
        if found is None:
            what = f"This node has made no device token {link!r}"
            raise NotFound("no-such-link", what, remedy="see fednode nodes, on the node that made it")
        await self._node.linker.revoke_link(found)
        return {"link_id": found, "expires_at": iso(links[found].expires_at)}

    async def revoke(self, node: str) -> Json:
        known = self._node.siblings.known
        names = {node_id: name_of(known, node_id) for node_id in known.certificates}
        # Of several with one name, the one that is still in is meant.
        found = id_named(node, {each: name for each, name in names.items() if known.admits(each)})
        found = found or id_named(node, names)
        if found is None:
            listed = ", ".join(sorted(names.values()))
            raise NotFound("no-such-node", f"You have no node {node!r}; you have: {listed}", remedy="see fednode nodes")
        return {"node_id": found, "name": names[found], "groups": await self._node.linker.revoke(found)}

    async def profile(self) -> Json:
        return dict(self._node.profile.view())

    async def set_profile(self, *, name: str | None, organisation: str | None, contact: str | None) -> Json:
        await self._node.profile.set(name=name, organisation=organisation, contact=contact)
        return await self.profile()
