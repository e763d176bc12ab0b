"""What a running node can be asked to recompute: a part of `node.api.service.service`."""

from typing import Any, Protocol


class AuditService(Protocol):
    """Makes committed rounds anew from their updates."""

    async def look(self, run: str, round_number: int | None) -> dict[str, Any]:
        """{"run_id", "rounds": [{"round", "verdict", "why", …}]}: of a round, or of all. Waits for what is fetched.

        Raises NotFound, and Refused where this node takes no part in the run, or where there is no such round."""
