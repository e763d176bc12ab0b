"""fednode's own client, asked by path: the questions are those of docs/api.md, and need no other names here."""

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from fednode import AsyncClient
from fednode_endpoints import LONG_DEADLINE_S

Answer = Coroutine[Any, Any, dict[str, Any]]


class NodeClient(Protocol):
    """What the dashboard needs of a client, which has deadlines on all of it and raises what AsyncClient raises."""

    def events(self) -> AsyncIterator[dict[str, Any]]: ...

    def ask(self, *parts: str, **filters: Any) -> Answer:
        """GET /v1/parts…?filters…"""

    def tell(self, method: str, *parts: str, body: Mapping[str, Any]) -> Answer:
        """POST, PUT or DELETE /v1/parts…"""

    def all_logs(self, run: str, **filters: Any) -> AsyncIterator[dict[str, Any]]:
        """GET /v1/runs/{run}/logs/all?filters…, its lines; to be closed when left early."""


class ApiClient(AsyncClient):
    """See NodeClient."""

    def ask(self, *parts: str, **filters: Any) -> Answer:
        return self._get(*parts, **filters)

    def tell(self, method: str, *parts: str, body: Mapping[str, Any]) -> Answer:
        path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
        return self._call(method, path, dict(body), LONG_DEADLINE_S)  # joining, say, waits for a member
