"""Which pages of the list of all runs are asked for, and which rows they make.

What is typed into the filter is asked of the node at most once a second; until its answer is there, the runs that are
known already are searched and sorted here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tui.facts.asks import ASK_AGAIN_S, Ask, Wish
from tui.facts.glance import Glance
from tui.facts.run_list import (
    PAGE_RUNS,
    Order,
    Page,
    fitting,
    in_order,
    page_ask,
    page_of,
    projects_ask,
    projects_of,
)
from tui.facts.runs import Run
from tui.views.run_list_rows import RunCells, RunRows

SORTED_ANEW_S = 15.0  # so often the order is asked for again while runs go on: it costs the node up to 0.2 s

Projects = Sequence[tuple[str, int]]


class RunPages:
    """The list in one order, as far as it was asked for. Change `order` and `folded` at will."""

    def __init__(self) -> None:
        self.order = Order()
        self.folded: set[str] = set()  # projects whose runs are not shown
        self.total = 0  # runs that fit
        self.source: object = None  # another one when the list is another, or told by somebody else
        self.postponed = False  # what is typed was not asked for yet: look again in ASK_AGAIN_S seconds
        self._asked = (self.order, "")  # the order and the words of the pages
        self._asked_at = float("-inf")
        self._pages: dict[int, Page] = {}
        self._lost: dict[int, int] = {}  # how often the runs of a page had been forgotten, by its number
        self._incomplete: set[int] = set()
        self._searched: tuple[object, ...] = ()
        self._found: list[Run] = []
        self._cells = RunCells()
        self._rows = RunRows({}, 0, lambda run_id: None, self._cells, ())
        self._sight = range(0)

    @property
    def first_ask(self) -> Ask:
        """The question for the first page: its trouble is that of the whole list."""
        return page_ask(*self._asked, 0)

    def rows(self, glance: Glance, sight: range) -> RunRows:
        """The rows as things are; `sight` are the numbers of those that can be seen."""
        self._sight = sight
        self._move_on(glance.choice.filter("runs"), glance.now)
        self._take_answers(glance)
        told = self._told(glance)
        self.source = (*self._asked, told is not None)
        pages, self.total, projects = told or self._known_here(glance)
        self._rows = RunRows(
            pages, self.total, glance.state.run, self._cells, glance.choice.marked, projects, frozenset(self.folded)
        )
        return self._rows

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        """The first page, which tells how many runs there are, and those around what is in sight."""
        order, wanted = self._asked
        moves = (order.is_live or wanted) and any(not run.ended for run in glance.state.runs())
        stamp = (glance.state.runs_total, glance.now // SORTED_ANEW_S if moves else 0)
        if order.by_project:
            yield Wish(projects_ask(wanted), stamp)
        for number in self._numbers():
            yield Wish(page_ask(order, wanted, number), (*stamp, self._lost.get(number, 0)))

    def _numbers(self) -> list[int]:
        room = len(self._sight)
        around = range(max(self._sight.start - room, 0), self._sight.stop + room)
        return sorted({0} | self._rows.pages_of(around))

    def _move_on(self, wanted: str, now: float) -> None:
        asked_for = (self.order, wanted)
        is_other = asked_for != self._asked
        self.postponed = is_other and wanted != self._asked[1] and now - self._asked_at < ASK_AGAIN_S
        if is_other and not self.postponed:
            self._asked, self._asked_at = asked_for, now
            self._pages, self._lost, self._incomplete = {}, {}, set()

    def _take_answers(self, glance: Glance) -> None:
        answers = glance.state.answers
        for number in self._numbers():
            ask = page_ask(*self._asked, number)
            told = answers.read(ask, page_of) if answers.known(ask) else None
            page = self._pages.get(number) if told is None else told
            if page is None:
                continue
            self._pages[number] = page
            if all(glance.state.run(run_id) for run_id in page.run_ids):
                self._incomplete.discard(number)
            elif number not in self._incomplete:  # seen long ago, and forgotten: it is asked for again
                self._incomplete.add(number)
                self._lost[number] = self._lost.get(number, 0) + 1

    def _told(self, glance: Glance) -> tuple[Mapping[int, Page], int, Projects] | None:
        """What the node has answered to exactly this, if it has."""
        answers, asked = glance.state.answers, projects_ask(self._asked[1])
        if self.postponed or 0 not in self._pages or (self.order.by_project and not answers.known(asked)):
            return None
        projects = answers.read(asked, projects_of) if self.order.by_project else ()
        return self._pages, self._pages[0].total, projects

    def _known_here(self, glance: Glance) -> tuple[Mapping[int, Page], int, Projects]:
        """The same out of the runs that are known already."""
        state, wanted = glance.state, glance.choice.filter("runs")
        inputs = (state.runs(), state.listed.revision, wanted, self.order)
        if inputs != self._searched:
            self._searched = inputs
            beyond = (run for run in state.listed.runs() if not state.is_followed(run.run_id))
            self._found = in_order(fitting([*state.runs(), *beyond], wanted), self.order)
        ids = [run.run_id for run in self._found]
        parts = {
            at // PAGE_RUNS: Page(tuple(ids[at : at + PAGE_RUNS]), len(ids)) for at in range(0, len(ids), PAGE_RUNS)
        }
        counts = Counter(run.project for run in self._found) if self.order.by_project else {}
        return parts, len(ids), tuple(counts.items())
