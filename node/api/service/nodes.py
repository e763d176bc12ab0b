"""What a running node can be asked about its own member: its nodes, and what it says of itself. A part of
`node.api.service.service`."""

from typing import Any, Protocol

Json = dict[str, Any]


class OwnNodesService(Protocol):
    """The member's nodes and its profile, in the shapes of docs/api.md."""

    async def listed(self) -> Json: ...

    async def link(self, expires_s: int) -> Json:
        """A device token. Raises Refused where this node does not hold the member's key."""

    async def revoke_link(self, link: str) -> Json:
        """Take a device token back, by its id or the beginning of it. Raises NotFound, or Refused where it was used."""

    async def revoke(self, node: str) -> Json:
        """Shut one of them out, everywhere and for good."""

    async def profile(self) -> Json: ...

    async def set_profile(self, *, name: str | None, organisation: str | None, contact: str | None) -> Json:
        """Change what is given; the rest stays."""
