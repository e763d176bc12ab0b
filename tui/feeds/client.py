"""fednode's own client, asked by path: the questions are those of docs/api.md, and need no other names here."""

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from fednode import AsyncClient

Answer = Coroutine[Any, Any, dict[str, Any]]


class NodeClient(Protocol):
    """What the dashboard needs of a client, which has deadlines on all of it and raises what AsyncClient raises."""

    def events(self) -> AsyncIterator[dict[str, Any]]: ...

    def ask(self, *parts: str, **filters: Any) -> Answer:
        """GET /v1/parts…?filters…"""

    def tell(self, method: str, *parts: str, body: Mapping[str, Any]) -> Answer:
        """POST, PUT or DELETE /v1/parts…"""


class ApiClient(AsyncClient):
    """See NodeClient."""

    def ask(self, *parts: str, **filters: Any) -> Answer:
        return self._get(*parts, **filters)

    def tell(self, method: str, *parts: str, body: Mapping[str, Any]) -> Answer:
        return self._call(method, "/v1/" + "/".join(quote(part, safe="") for part in parts), dict(body))
