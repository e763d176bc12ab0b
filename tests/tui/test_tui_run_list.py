"""The list of runs as rules: orders, filters, pages, and rows that are made only when they are looked at."""

import pytest
from tui_run_ground import run_json

from tui.drawing.grid import Row
from tui.facts.asks import asking
from tui.facts.choice import Choice
from tui.facts.glance import Glance
from tui.facts.run_list import (
    LISTED_MAX,
    PAGE_RUNS,
    SORTS,
    ListedRuns,
    Order,
    Page,
    fitting,
    in_order,
    page_ask,
    page_of,
)
from tui.facts.runs import Run
from tui.facts.state import State
from tui.views.run_list_rows import RunCells, RunRows, left_text
from tui.views.run_pages import RunPages


def runs(*changes):
    return [Run.of(run_json(at, **each)) for at, each in enumerate(changes)]


def test_every_order_puts_what_has_no_figure_last_both_ways():
    some = runs({"accuracy": 0.5}, {"accuracy": None}, {"accuracy": 0.9})
    assert [run.accuracy for run in in_order(some, Order("accuracy"))] == [0.9, 0.5, None]
    assert [run.accuracy for run in in_order(some, Order("accuracy", is_turned=True))] == [0.5, 0.9, None]


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_can_be_turned_and_is_asked_for_as_it_is_shown(sort):
    some = runs(
        {"name": "b", "round": 3, "loss": 0.1, "state": "FAILED"},
        {"name": "A", "round": 7, "loss": 0.3, "state": "RUNNING"},
    )
    one, other = (in_order(some, Order(sort, is_turned=turned)) for turned in (False, True))
    if sort != "accuracy":
        assert one == other[::-1]
    assert dict(page_ask(Order(sort), "", 0).filters)["descending"] is (sort in ("created", "round", "accuracy"))


def test_projects_stand_together_in_the_order_within():
    some = runs({"project": "b"}, {"project": "A"}, {"project": "b"})
    assert [run.run_id[-1] for run in in_order(some, Order(by_project=True))] == ["1", "2", "0"]


def test_every_word_must_fit_somewhere():
    some = runs(
        {"name": "Digits", "state": "FAILED"}, {"name": "digits two", "state": "FINISHED"}, {"project": "DIGITS"}
    )
    assert len(fitting(some, " digits ")) == 3
    assert [run.name for run in fitting(some, "FAILED digits")] == ["Digits"]
    assert [run.run_id for run in fitting(some, "00000001")] == ["00000001"]
    assert fitting(some, "0001") == [], "an id is known by its beginning"


def test_a_page_is_asked_for_by_number_order_and_words():
    ask = page_ask(Order("loss", by_project=True), "  a   b ", 3)
    wanted = {"sort": "loss", "descending": False, "by_project": True, "text": "a b"}
    assert ask == asking("runs", brief=True, limit=PAGE_RUNS, offset=300, **wanted)


def test_an_answer_without_a_total_is_no_page():
    assert page_of({"runs": [run_json(1)]}) is None
    assert page_of({"runs": [run_json(1)], "total": 7}) == Page(("00000001",), 7)
    assert page_of({"runs": "x", "total": -3}) == Page((), 0)


def test_what_was_told_in_full_stays_when_a_page_tells_less():
    listed = ListedRuns()
    listed.learn([{**run_json(1), "participants": [{"node_id": "n1"}]}])
    listed.learn([run_json(1, accuracy=0.75)])
    run = listed.run("00000001")
    assert (run.accuracy, len(run.participants)) == (0.75, 1)


def test_no_more_runs_are_remembered_than_fit():
    listed = ListedRuns()
    listed.learn(run_json(at) for at in range(LISTED_MAX + 5))
    assert listed.run(f"{4:08x}") is None
    assert listed.run(f"{5:08x}").name == "study-5"
    assert len(listed.runs()) == LISTED_MAX


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.0, "0 s"), (99.0, "99 s"), (750.0, "12 min"), (7200.0, "2 h"), (4e5, "5 d"), (-1.0, "–")],
)
def test_the_time_left_in_one_unit(seconds, text):
    assert left_text(Run.of(run_json(0, seconds_left=seconds))) == text
    assert left_text(Run.of(run_json(1, seconds_left=seconds))) == "", "of a run that is over nothing is left"


def rows_of(pages, total, **wanted):
    known = {f"{at:08x}": Run.of(run_json(at)) for at in range(1000)}
    made = []

    def find(run_id):
        made.append(run_id)
        return known.get(run_id)

    return RunRows(pages, total, find, RunCells(), (), **wanted), made


def test_rows_are_made_when_they_are_looked_at():
    pages = {0: Page(tuple(f"{at:08x}" for at in range(100)), 10_000)}
    rows, made = rows_of(pages, 10_000)
    assert len(rows) == 10_000
    assert made == []
    assert rows[7].cells[1].text == "study-7"
    assert made == ["00000007"]
    assert rows[5000].cells[1].text == "…"
    assert rows.key(5000) == "coming 5000"
    assert rows.pages_of(range(-5, 120)) == {0, 1}


def test_headings_stand_before_their_runs_and_folded_ones_alone():
    pages = {0: Page(tuple(f"{at:08x}" for at in range(6)), 6)}
    rows, _ = rows_of(pages, 6, projects=(("a", 1), ("b", 3), ("", 2)), folded={"b"})
    keys = [rows.key(at) for at in range(len(rows))]
    assert keys == ["project a", "00000000", "project b", "project ", "00000004", "00000005"]
    words = [rows[at].cells[1].text for at in range(len(rows))]
    assert words == ["▾ a", "study-0", "▸ b", "▾ (no project)", "study-4", "study-5"]
    assert all(isinstance(rows[at], Row) and len(rows[at].cells) == len(rows[0].cells) for at in range(len(rows)))


def glance_at(state, choice, now):
    return Glance(state, choice, now)


def test_what_is_typed_is_asked_at_most_once_a_second_and_found_at_once_among_what_is_known():
    state, choice, pages = State(), Choice(), RunPages()
    state.apply({"type": "snapshot", "runs": [run_json(at) for at in range(30)], "runs_total": 500}, 0.0)
    asked = []
    for now, words in ((10.0, "s"), (10.2, "st"), (10.4, "study-2"), (10.9, "study-29"), (11.0, "study-29")):
        choice.filters["runs"] = words
        rows = pages.rows(glance_at(state, choice, now), range(20))
        asked.append({dict(wish.ask.filters).get("text") for wish in pages.wishes(glance_at(state, choice, now))})
        assert len(rows) == sum(words in f"study-{at}" for at in range(30))
    assert asked == [{"s"}, {"s"}, {"s"}, {"s"}, {"study-29"}]
    assert not pages.postponed


def test_a_page_whose_runs_were_forgotten_is_asked_for_again():
    state, choice, pages = State(), Choice(), RunPages()
    state.apply({"type": "snapshot", "runs": []}, 0.0)

    def look():
        glance = glance_at(state, choice, 10.0)
        pages.rows(glance, range(10))
        return list(pages.wishes(glance))

    (wish,) = look()
    state.take(wish.ask, {"runs": [run_json(1)], "total": 1})
    assert look() == [wish]
    state.listed = ListedRuns()
    (again,) = look()
    assert (again.ask, again.stamp != wish.stamp) == (wish.ask, True)
    assert look() == [again], "once"


def test_an_order_that_changes_by_itself_is_asked_for_anew_now_and_then_while_a_run_goes_on():
    state, choice, pages = State(), Choice(), RunPages()
    state.apply({"type": "snapshot", "runs": [run_json(0)]}, 0.0)

    def stamps(order):
        pages.order = order
        for now in (100.0, 101.0, 120.0):
            glance = glance_at(state, choice, now)
            pages.rows(glance, range(10))
            yield next(iter(pages.wishes(glance))).stamp

    first, soon, later = stamps(Order("accuracy"))
    assert first == soon != later
    assert len(set(stamps(Order("name")))) == 1
