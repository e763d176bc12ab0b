"""Which lines are held and wanted: whatever comes in whatever pieces, as if all were looked through every time."""

from hypothesis import given
from hypothesis import strategies as st

from tui.drawing.grid import marked
from tui.drawing.picture import Span
from tui.facts.fields import WHOLE_CHARS_MAX, lines_of
from tui.facts.log_lines import LOG_LINES_MAX, READ_LINES_MAX, HeldLog, Selection, Sought, place_text
from tui.facts.nodes import LogLine
from tui.facts.state import State
from tui.views.log_rows import EXACT_LOG_COLUMNS, LogRows

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def line(seq, message="m", level="INFO", node="n", second=None, run="r"):
    when = seq if second is None else second
    time = f"2026-11-21T{when // 3600 % 24:02d}:{when // 60 % 60:02d}:{when % 60:02d}Z"
    told = {"seq": seq, "time": time, "level": level, "node_id": node, "run_id": run, "logger": "task.Log"}
    return LogLine.of({**told, "message": message})


def seqs(selection):
    return [each.seq for each in selection.lines]


words = st.sampled_from(["Loss is NaN", "round done", "nan", "a.b", "100%"])
lines = st.builds(
    lambda message, level, node: (message, level, node), words, st.sampled_from(LEVELS), st.sampled_from("ab")
)
soughts = st.builds(
    Sought,
    st.integers(0, 3),
    st.sampled_from(["", "a"]),
    st.sampled_from(["", "r", "other"]),
    st.sampled_from(["", "NaN", "."]),
)


@given(st.lists(st.lists(lines, max_size=6), max_size=8), soughts)
def test_a_selection_is_what_looking_through_everything_gives(batches, sought):
    log, at = HeldLog(), 0
    selection = Selection(log, sought)
    for batch in batches:
        log.add([line(at + place, *told) for place, told in enumerate(batch, 1)])
        at += len(batch)
        selection.keep_up()
        assert selection.lines == [each for each in log.lines if sought.wants(each)]
        assert all(selection.find(each.key) == index for index, each in enumerate(selection.lines))
    assert selection.builds == 1 or not batches, "each line was looked at once"


def test_a_line_is_wanted_by_level_node_run_and_text():
    bad = line(1, "Loss is NaN", "ERROR", "icu")
    assert Sought(3, "icu", "r", "loss is nan").wants(bad)
    assert Sought(text="TASK.log").wants(bad)
    assert Sought(3).wants(line(1, level="CRITICAL"))
    for other in (Sought(3, "lab"), Sought(run_id="other"), Sought(text="round")):
        assert not other.wants(bad)
    assert not Sought(2).wants(line(1))


def test_what_is_held_is_bounded_and_old_lines_fall_out():
    log = HeldLog()
    selection = Selection(log, Sought())
    for first in range(1, 3 * LOG_LINES_MAX, 700):
        log.add(map(line, range(first, first + 700)))
        selection.keep_up()
    assert len(log.lines) == len(selection.lines) == LOG_LINES_MAX
    assert selection.lines[-1].seq == log.count
    assert selection.find(("n", 1)) is None
    assert selection.find(selection.lines[5].key) == 5


def test_nothing_falls_out_while_somebody_reads_up_to_a_bound():
    log = HeldLog()
    log.add(map(line, range(1, LOG_LINES_MAX + 1)))
    selection = Selection(log, Sought())
    selection.keep_up()
    first = LOG_LINES_MAX + 1
    while not selection.is_full:
        log.add(map(line, range(first, first + 5_000)))
        first += 5_000
        selection.keep_up(still=True)
    assert seqs(selection) == list(range(1, READ_LINES_MAX + 1))
    log.add(map(line, range(first, first + 5_000)))
    selection.keep_up(still=True)
    assert len(selection.lines) == READ_LINES_MAX
    selection.keep_up()
    assert seqs(selection) == list(range(first + 5_000 - LOG_LINES_MAX, first + 5_000))


def test_a_page_of_the_record_goes_before_the_rest_each_line_once():
    log = HeldLog()
    log.add(map(line, range(50, 60)))
    selection = Selection(log, Sought(text="m"))
    selection.keep_up(still=True)
    assert selection.prepend([line(at) for at in range(40, 53)] + [line(45, "other")]) == 10
    assert seqs(selection) == list(range(40, 60))
    assert [selection.find(("n", at)) for at in (40, 50, 59)] == [0, 10, 19]


def test_lines_that_belong_between_do_not_move_what_is_read():
    log = HeldLog()
    log.add(map(line, (1, 2, 3, 8, 9)))
    selection = Selection(log, Sought())
    selection.keep_up(still=True)
    log.merge(map(line, (3, 4, 5, 6)))
    log.add([line(10)])
    selection.keep_up(still=True)
    assert seqs(selection) == [1, 2, 3, 8, 9, 10]
    selection.keep_up()
    assert seqs(selection) == [1, 2, 3, 4, 5, 6, 8, 9, 10]


def test_a_line_that_an_answer_told_already_does_not_come_twice():
    log = HeldLog()
    log.merge(map(line, (1, 2)))
    assert log.add(map(line, (2, 3))) == 1
    assert [each.seq for each in log.lines] == [1, 2, 3]
    unnumbered = LogLine.of({"message": "told by nobody"})
    assert log.add([unnumbered, unnumbered]) == 2


def test_views_share_what_they_look_for():
    state = State()
    state.apply({"type": "logs", "logs": [{"message": "x"}], "left_out": 3}, 0.0)
    assert state.lines(Sought()) is state.lines(Sought())
    assert state.log.left_out == 3
    for level in range(20):
        state.lines(Sought(text=str(level)))
    assert len(state._selections) <= 4


def test_the_place_of_a_line_is_that_of_the_local_api():
    assert place_text(line(7, node="n,2", second=61)) == "2026-11-21T00:01:01.000000,7,n,2"


def test_a_message_of_many_lines_stays_whole_and_safe():
    told = "a\tb\r\n  c\x1b[2J\n" + "d" * 3_000
    assert lines_of({"message": told}, "message") == "a       b\n  c·[2J\n" + "d" * 3_000
    assert lines_of({"message": "short"}, "message") == ""
    assert lines_of({"message": 7}, "message") == ""
    assert len(lines_of({"message": "x\n" * WHOLE_CHARS_MAX}, "message")) <= WHOLE_CHARS_MAX
    log = HeldLog()
    log.add([line(1, "one\ntwo")])
    selection = Selection(log, Sought())
    selection.keep_up()
    rows = LogRows(selection, {}, EXACT_LOG_COLUMNS)
    assert rows[0].cells[-1].text == "one ⏎ two"
    assert rows.in_full(0).endswith("\none\ntwo")


def test_what_matches_is_marked_where_it_stands():
    spans = marked((Span("Loss is NaN, nan", "bad"), Span("no")), "nan")
    assert spans == (Span("Loss is ", "bad"), Span("NaN", "match"), Span(", ", "bad"), Span("nan", "match"), Span("no"))
    assert marked((Span("a.b axb"),), "a.b") == (Span("a.b", "match"), Span(" axb"))
