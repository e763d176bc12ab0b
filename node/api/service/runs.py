"""What a running node can be asked about many runs at once: a part of node.api.service.service."""

from collections.abc import Mapping
from typing import Any, Protocol

Json = dict[str, Any]


class RunListService(Protocol):
    """Many runs at once. `wanted`: what docs/api.md lets one ask for, None or nothing for what is not."""

    async def page(self, wanted: Mapping[str, Any]) -> Json:
        """`runs`, and the `total` of those that fit."""

    async def projects(self, wanted: Mapping[str, Any]) -> list[Json]:
        """The projects of the runs that fit, in the order in which runs by project come, with how many."""
