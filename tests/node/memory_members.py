"""Memberships that keep everything in memory, for tests of the API and of the commands."""

from typing import Any

from node.service import NotFound
from protocol.errors import Refused

Json = dict[str, Any]


def operation_json(kind: str, text: str, **changes: Any) -> Json:
    facts = {"hash": "ef" * 32, "kind": kind, "claimed_at": "2026-01-01T00:00:00Z", "by_node": "12D3KooWAnn"}
    facts |= {"by_name": "alpha", "by_member": "Ann", "text": text, "counts": True, "why": ""}
    return {**facts, "parents": [], "previous": "", "bytes": 300, **changes}


class MemoryMembers:
    """Ann is an admin of the group, Bo a member; there is one invitation."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    def _done(self, kind: str, text: str) -> Json:
        return {"group_id": "ab" * 32, "group": "study", **operation_json(kind, text)}

    async def remove(self, group: str, member: str, reason: str) -> Json:
        self._calls.append(("remove", group, member, reason))
        if member != "Bo":
            raise NotFound("no-such-member", f"study has no member {member!r}; it has: Ann, Bo", remedy="name one")
        return self._done("member.remove", f"removed {member}: {reason}")

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
