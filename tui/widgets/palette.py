"""The palette behind Ctrl+P: everything that the keys can do, and every command, by name; lately used first."""

from asyncio import Task, create_task, shield
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, cast

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider

LATELY_MAX = 8  # what was used last, at the top of the list


class Deed(NamedTuple):
    """Something that can be done now. `key`: the key that does it, too."""

    name: str
    help: str
    do: Callable[[], object]
    key: str = ""


class Offers(Protocol):
    """The app, as the palette knows it."""

    lately: list[str]  # names of deeds, the newest first

    async def load_deeds(self) -> None:
        """Called when the palette opens, before `deeds`."""

    def deeds(self) -> Sequence[Deed]: ...


class Deeds(Provider):
    """Offers what the app says can be done at this moment. Names are never taken for markup: peers choose some."""

    @property
    def _offers(self) -> Offers:
        return cast(Offers, self.app)

    async def startup(self) -> None:
        # Not awaited here: each key typed cancels the search before it, and with it a startup that it waits for, after
        # which this palette would never find anything.
        self._loading: Task[None] = create_task(self._offers.load_deeds())

    def _deeds(self) -> Iterable[Deed]:
        deeds, lately = self._offers.deeds(), self._offers.lately
        return sorted(deeds, key=lambda deed: lately.index(deed.name) if deed.name in lately else LATELY_MAX)

    async def discover(self) -> Hits:
        await shield(self._loading)
        for deed in self._deeds():
            yield DiscoveryHit(_prompt(deed), partial(self._do, deed), text=deed.name)

    async def search(self, query: str) -> Hits:
        await shield(self._loading)
        matcher = self.matcher(query)
        for deed in self._deeds():
            score, offsets = matcher.fuzzy_search.match(matcher.query, deed.name)
            if score > 0:
                yield Hit(score, _prompt(deed, offsets), partial(self._do, deed), text=deed.name)

    def _do(self, deed: Deed) -> None:
        lately = self._offers.lately
        lately[:] = [deed.name, *(name for name in lately if name != deed.name)][:LATELY_MAX]
        deed.do()


def _prompt(deed: Deed, matched: Sequence[int] = ()) -> Text:
    """A deed in two lines: its name with the key beside it, and what it does."""
    name = Text(deed.name)
    for offset in matched:
        name.stylize("bold underline", offset, offset + 1)
    return Text.assemble(name, (f"   {deed.key}" if deed.key else "", "bold"), "\n", (deed.help, "dim"))
