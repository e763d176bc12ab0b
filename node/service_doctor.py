"""What a running node can be asked about its own health: a part of `node.service`."""

from typing import Any, Protocol


class DoctorService(Protocol):
    """Looks for what goes wrong in practice."""

    async def look(self) -> dict[str, Any]:
        """{"checks": [{"name", "state", "text", "remedy"}]}; takes as long as the slowest node that is asked the time."""
