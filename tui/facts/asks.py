"""Questions to a feed, beyond the events that it tells by itself, and the answers that came. Pure: asks nothing itself.

A question is a path of the local API (docs/api.md) with its filters: `asking("runs", run_id, "rounds", limit=50)` is
GET /v1/runs/{run_id}/rounds?limit=50. Views wish for answers at every repaint; `Questions` says which of these wishes
are to be asked now.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from tui.facts.fields import Json

Read = TypeVar("Read")

ASK_AGAIN_S = 1.0  # a run that commits ten rounds a second is not asked about ten times a second
ANSWERS_MAX = 64  # of the newest used; an answer is a page, a few MB at the most
ASKED_MAX = 1_000  # questions of which it is remembered when they were asked; then those that came to nothing go
NO_ANSWER: Json = {}


class Ask(NamedTuple):
    """One question: the parts of its path, and its filters by name."""

    parts: tuple[str, ...]
    filters: tuple[tuple[str, Any], ...] = ()


class Wish(NamedTuple):
    """A view wants this answer, and wants it anew when `stamp` is another than when it was asked."""

    ask: Ask
    stamp: object = None


def asking(*parts: str, **filters: Any) -> Ask:
    """The question GET /v1/parts…?filters…; filters that are None are left out."""
    return Ask(parts, tuple(sorted((name, value) for name, value in filters.items() if value is not None)))


class Questions:
    """Remembers what was asked, and with which stamp. A new snapshot makes every answer stale."""

    def __init__(self) -> None:
        self._asked: dict[Ask, tuple[object, float]] = {}
        self._on_their_way: set[Ask] = set()
        self.postponed = False  # some wish was left for later, so another look is needed even without news

    def due(
        self, wishes: Iterable[Wish], snapshots: int, now: float, remembers: Callable[[Ask], bool] = lambda _ask: True
    ) -> list[Ask]:
        """What to ask now; it counts as asked from here on. `now`: any clock that does not go back, in seconds. Of
        several wishes for one answer the first counts. What nobody `remembers` the answer to is asked once more."""
        due: list[Ask] = []
        wished: set[Ask] = set()
        self.postponed = False
        for ask, stamp in wishes:
            if ask in wished:
                continue
            wished.add(ask)
            known, since = self._asked.get(ask, (None, float("-inf")))
            if known == (snapshots, stamp) and (ask in self._on_their_way or remembers(ask)):
                continue
            if ask in self._on_their_way or now - since < ASK_AGAIN_S:
                self.postponed = True
                continue
            self._asked[ask] = ((snapshots, stamp), now)
            self._on_their_way.add(ask)
            due.append(ask)
        if len(self._asked) > ASKED_MAX:
            kept = (ask for ask in self._asked if ask in self._on_their_way or remembers(ask))
            self._asked = {ask: self._asked[ask] for ask in kept}
        return due

    @property
    def waiting(self) -> bool:
        """Some answer is still on its way."""
        return bool(self._on_their_way)

    def answered(self, ask: Ask) -> None:
        """It may be asked again, whatever came of it."""
        self._on_their_way.discard(ask)

    def ask_anew(self) -> None:
        """Whatever is wished for is asked once more."""
        self._asked.clear()


class Answers:
    """The newest answer to each question, as JSON; of long unused ones none."""

    def __init__(self) -> None:
        self._answers: dict[Ask, Json] = {}
        self._troubles: dict[Ask, str] = {}
        self._read: dict[tuple[Ask, object], tuple[Json, Any]] = {}

    def take(self, ask: Ask, answer: Json) -> None:
        self._troubles.pop(ask, None)
        self._answers.pop(ask, None)
        self._answers[ask] = answer
        while len(self._answers) > ANSWERS_MAX:
            old = next(iter(self._answers))
            del self._answers[old]
            self._read = {key: value for key, value in self._read.items() if key[0] != old}

    def fail(self, ask: Ask, why: str) -> None:
        """The question came to nothing; an older answer stays."""
        self._troubles.pop(ask, None)
        self._troubles[ask] = why
        if len(self._troubles) > ANSWERS_MAX:
            del self._troubles[next(iter(self._troubles))]

    def forget(self, begin: tuple[str, ...]) -> None:
        """Every answer to a question whose path begins so is gone."""
        gone = {ask for ask in self._answers if ask.parts[: len(begin)] == begin}
        self._answers = {ask: answer for ask, answer in self._answers.items() if ask not in gone}
        self._read = {key: value for key, value in self._read.items() if key[0] not in gone}

    def remembers(self, ask: Ask) -> bool:
        """What came of the question, an answer or trouble, is still here."""
        return ask in self._answers or ask in self._troubles

    def trouble(self, ask: Ask) -> str:
        """Why the last try came to nothing, or nothing."""
        return self._troubles.get(ask, "")

    def known(self, ask: Ask) -> bool:
        return ask in self._answers

    def get(self, ask: Ask) -> Json:
        """The answer's JSON, empty while there is none."""
        answer = self._answers.get(ask)
        if answer is None:
            return NO_ANSWER
        self._answers[ask] = self._answers.pop(ask)  # the newest used stay longest
        return answer

    def read(self, ask: Ask, reader: Callable[[Json], Read]) -> Read:
        """`reader(answer)`, worked out once for every answer. Give a function that has a name, not a fresh lambda."""
        answer = self.get(ask)
        known = self._read.get((ask, reader))
        if known is None or known[0] is not answer:
            known = (answer, reader(answer))
            self._read[ask, reader] = known
        value: Read = known[1]
        return value
