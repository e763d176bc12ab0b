"""Memberships that keep everything in memory, for tests of the API and of the commands."""

from typing import Any

from node.api.service.service import NotFound
from protocol.errors import Refused

Json = dict[str, Any]


def operation_json(kind: str, text: str, **changes: Any) -> Json:
    facts = {"hash": "ef" * 32, "kind": kind, "claimed_at": "2026-01-01T00:00:00Z", "by_node": "12D3KooWAnn"}
    facts |= {"by_name": "alpha", "by_member": "Ann", "text": text, "counts": True, "why": ""}
    return {**facts, "parents": [], "previous": "", "bytes": 300, **changes}


_MADE = {"expires_at": "2026-01-01T01:00:00Z", "warning": "Only machines on your local network can use it"}


class MemoryOwnNodes:
    """Ann's two nodes; the laptop was linked, and the old one is revoked."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        self.told = {"name": "Ann", "organisation": "", "contact": ""}

    def _node(self, name: str, **changes: Any) -> Json:
        facts: Json = {"node_id": f"12D3KooW{name}", "name": name, "is_self": False, "holds_member_key": False}
        facts |= {"issued_at": "2026-01-01T00:00:00Z", "connected": True, "last_heard_at": None, "groups": ["study"]}
        return {**facts, "revoked_at": None, **changes}

    async def listed(self) -> Json:
        nodes = [
            self._node("alpha", is_self=True, holds_member_key=True),
            self._node("lap\x1b[2Jtop"),
            self._node("old", connected=False, groups=[], revoked_at="2026-01-02T00:00:00Z"),
        ]
        link = {"link_id": "cd" * 32, "expires_at": "2026-01-01T01:00:00Z", "used_by": "laptop", "revoked": False}
        return {"member_id": "MAnn", "member": "Ann", "holds_member_key": True, "nodes": nodes, "links": [link]}

    async def link(self, expires_s: int) -> Json:
        self._calls.append(("link", expires_s))
        return {"link_id": "cd" * 32, "token": "fednode-link1-abc", **_MADE}

    async def revoke_link(self, link: str) -> Json:
        self._calls.append(("revoke-link", link))
        return {"link_id": "cd" * 32, "expires_at": "2026-01-01T01:00:00Z"}

    async def revoke(self, node: str) -> Json:
        self._calls.append(("revoke-node", node))
        if node == "alpha":
            raise Refused("revoking-itself", "A node does not revoke itself", remedy="do it on another node")
        name = node.removeprefix("12D3KooW")
        return {"node_id": f"12D3KooW{name}", "name": name, "groups": ["study"]}

    async def profile(self) -> Json:
        return dict(self.told)

    async def set_profile(self, **changes: str | None) -> Json:
        self._calls.append(("profile", changes))
        self.told |= {key: value for key, value in changes.items() if value is not None}
        return dict(self.told)


class MemoryMembers:
    """Ann is an admin of the group, Bo a member; there is one invitation."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        self.own_nodes = MemoryOwnNodes(calls)

    def _done(self, kind: str, text: str) -> Json:
        return {"group_id": "ab" * 32, "group": "study", **operation_json(kind, text)}

    async def remove(self, group: str, member: str, reason: str) -> Json:
        self._calls.append(("remove", group, member, reason))
        if member not in ("Bo", "Mbo"):
            raise NotFound("no-such-member", f"study has no member {member!r}; it has: Ann, Bo", remedy="name one")
        return self._done("member.remove", f"removed Bo: {reason}")

    async def change_role(self, group: str, member: str, role: str) -> Json:
        self._calls.append(("role", group, member, role))
        if member == "Ann":
            raise Refused("last-admin", "Ann is the only admin of study", remedy="make somebody else an admin first")
        return self._done("member.role", f"made {member} {role}")

    async def leave(self, group: str) -> Json:
        self._calls.append(("leave", group))
        return self._done("member.leave", "left the group")

    async def revoke(self, group: str, invitation: str) -> Json:
        self._calls.append(("revoke", group, invitation))
        return self._done("invite.revoke", f"revoked the invitation {invitation}")

    async def history(self, group: str, before: str | None, limit: int) -> Json:
        self._calls.append(("history", group, before, limit))
        void = operation_json("invite.post", "invited a member, once", counts=False, why="its author was no admin")
        operations = [operation_json("member.remove", "removed \x1b[2JEve: gone\nfor good"), void]
        return {"operations": operations[:limit], "previous": "cd" * 32 if limit == 1 else None, "total": 2}
