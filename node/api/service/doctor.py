"""What a running node can be asked about its own health: a part of `node.api.service.service`."""

from typing import Any, Protocol


class DoctorService(Protocol):
    """Looks for what goes wrong in practice."""

    async def look(self) -> dict[str, Any]:
        """{"checks": [{"name", "state", "text", "remedy"}]}. Waits for all nodes that are asked the time."""
