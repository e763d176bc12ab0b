"""What a running node can be asked about who is in its groups: a part of `node.api.service.service`."""

from typing import Any, Protocol

from node.api.service.nodes import OwnNodesService

Json = dict[str, Any]


class MembershipService(Protocol):
    """Who is in a group. Each change answers with the operation that says it, in the shape of the history."""

    @property
    def own_nodes(self) -> OwnNodesService: ...

    async def remove(self, group: str, member: str, reason: str) -> Json: ...

    async def change_role(self, group: str, member: str, role: str) -> Json: ...

    async def leave(self, group: str) -> Json: ...

    async def revoke(self, group: str, invitation: str) -> Json: ...

    async def history(self, group: str, before: str | None, limit: int) -> Json:
        """The newest operations of the group's log, in words, newest first; or those before the operation `before`."""
