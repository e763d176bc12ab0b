"""The palette behind Ctrl+P: everything that the keys can do, by name."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from textual.command import DiscoveryHit, Hit, Hits, Provider


class Deed(NamedTuple):
    """Something that can be done now."""

    name: str
    help: str
    do: Callable[[], object]


class Deeds(Provider):
    """Offers what the app says can be done at this moment."""

    def _deeds(self) -> Iterable[Deed]:
        deeds: Iterable[Deed] = getattr(self.app, "deeds", list)()
        return deeds

    async def discover(self) -> Hits:
        for deed in self._deeds():
            yield DiscoveryHit(deed.name, deed.do, help=deed.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for deed in self._deeds():
            score = matcher.match(deed.name)
            if score > 0:
                yield Hit(score, matcher.highlight(deed.name), deed.do, help=deed.help)
