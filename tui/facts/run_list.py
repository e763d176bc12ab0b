"""The list of all runs, which may be far longer than what events tell of: its orders, its pages, what fits a filter.

Pure. The node sorts, filters and counts (docs/api.md, GET /v1/runs); here is how it is asked, and the same rules over
the runs that are known already, for the moment until its answer is there.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tui.facts.asks import Ask, asking
from tui.facts.fields import LONG_AGO, Json, items, number, text
from tui.facts.runs import Run

PAGE_RUNS = 100  # asked for at once: two screens of the largest terminals, some 60 ms of the node's time
LISTED_MAX = 10_000  # runs remembered from pages: some 10 MB; others are asked for again
MARKED_MAX = 8  # runs to compare: as many as there are colours for curves

SORTS = ("created", "name", "state", "round", "accuracy", "loss", "project")
_FALLING = frozenset({"created", "round", "accuracy"})  # of these the highest stands first, as a rule
_LIVE = frozenset({"state", "round", "accuracy", "loss"})  # what changes while a run goes on
_STATE_RANKS = ("RUNNING", "GATHERING", "PROPOSED", "FAILED", "STOPPED", "FINISHED")


class Order(NamedTuple):
    """How runs are listed: by what, whether against its usual direction, and whether project by project."""

    sort: str = "created"
    is_turned: bool = False
    by_project: bool = False

    @property
    def is_descending(self) -> bool:
        return (self.sort in _FALLING) != self.is_turned

    @property
    def is_live(self) -> bool:
        """It changes while runs go on, and not only when there is a new one."""
        return self.sort in _LIVE

    def next_sort(self) -> "Order":
        return self._replace(sort=SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)], is_turned=False)


class Page(NamedTuple):
    """The ids of the runs on one page, and how many there are on all of them."""

    run_ids: tuple[str, ...]
    total: int


def page_ask(order: Order, wanted: str, page: int) -> Ask:
    """The question for a page, counted from 0, of the runs that fit the words `wanted`."""
    return asking(
        "runs",
        brief=True,
        limit=PAGE_RUNS,
        offset=page * PAGE_RUNS,
        sort=order.sort,
        descending=order.is_descending,
        by_project=order.by_project or None,
        text=" ".join(wanted.split()) or None,
    )


def projects_ask(wanted: str) -> Ask:
    """The question for the projects of the runs that fit the words `wanted`, and how many runs each has."""
    return asking("projects", text=" ".join(wanted.split()) or None)


def page_of(answer: Json) -> Page | None:
    """A page out of the node's answer, or None of a node that does not count its runs."""
    if not isinstance(answer.get("total"), int):
        return None
    return Page(tuple(text(run, "run_id") for run in items(answer, "runs")), max(number(answer, "total"), 0))


def projects_of(answer: Json) -> tuple[tuple[str, int], ...]:
    """Projects and how many runs each has, in the order of the list."""
    return tuple((text(each, "project"), max(number(each, "runs"), 0)) for each in items(answer, "projects"))


def fitting(runs: Iterable[Run], wanted: str) -> list[Run]:
    """The runs that have each of the words `wanted`, as the node finds them (their tags are known to it alone)."""
    words = wanted.casefold().split()
    return [run for run in runs if _fits(run, words)] if words else list(runs)


def _fits(run: Run, words: Sequence[str]) -> bool:
    told = "\n".join((run.name, run.project, run.experiment, run.task, run.state)).casefold()
    return all(word in told or run.run_id.startswith(word) for word in words)


def in_order(runs: Iterable[Run], order: Order) -> list[Run]:
    """The runs in this order, as the node sorts them: of equals the newest first, those without a figure last."""
    value = _VALUES[order.sort]
    newest_first = sorted(runs, key=lambda run: run.created_at or LONG_AGO, reverse=True)
    found = [run for run in newest_first if value(run) is not None]
    found.sort(key=value, reverse=order.is_descending)
    found += [run for run in newest_first if value(run) is None]
    if order.by_project:
        found.sort(key=lambda run: (run.project.lower(), run.project))
    return found


_VALUES: dict[str, Callable[[Run], Any]] = {
    "created": lambda run: run.created_at or LONG_AGO,
    "name": lambda run: run.name.lower(),
    "state": lambda run: _STATE_RANKS.index(run.state) if run.state in _STATE_RANKS else len(_STATE_RANKS),
    "round": lambda run: run.round,
    "accuracy": lambda run: run.accuracy,
    "loss": lambda run: run.loss,
    "project": lambda run: run.project.lower(),
}


class ListedRuns:
    """Runs that pages of the list, or a question for one of them, told of; no event tells how they go on."""

    def __init__(self) -> None:
        self._told: dict[str, Json] = {}
        self._runs: dict[str, Run] = {}
        self.revision = 0

    def learn(self, told: Iterable[Json]) -> None:
        """Take runs in. What a page leaves out of a run that was told in full stays as it was."""
        self.revision += 1
        for run in told:
            run_id = text(run, "run_id")
            self._told[run_id] = {**self._told.pop(run_id, {}), **run}
            self._runs.pop(run_id, None)
        while len(self._told) > LISTED_MAX:
            old = next(iter(self._told))
            del self._told[old]
            self._runs.pop(old, None)

    def run(self, run_id: str) -> Run | None:
        if run_id not in self._runs and run_id in self._told:
            self._runs[run_id] = Run.of(self._told[run_id])
        return self._runs.get(run_id)

    def runs(self) -> list[Run]:
        return [run for run_id in self._told if (run := self.run(run_id)) is not None]
