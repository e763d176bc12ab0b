"""The inbox in the dashboard: its badge, its pages, and answers given by keys."""

import pytest
from tui_answers_inbox import ANSWERS, CODE, DATA, GONE, ITEMS
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_pictures import compare
from tui_stage import play, stage

from fednode import ClientError
from tracker.store import Store
from tracker.tables.rows import RunRow, StatusRow
from tui.facts.inbox import Item, items_of, proposal_of, waiting
from tui.facts.runs import Run
from tui.facts.state import State
from tui.feeds.store import StoreFeed
from tui.views.inbox import READ_S
from tui.views.inbox_rows import item_page
from tui.widgets.dialogs import Question
from tui.widgets.forms import Form

XRAY = "015f3a9c2e7b41d8"
MIDDLE = 110
HERE = {
    **ANSWERS["proposal"],
    "code": {**CODE, "here": True, "what": "It runs the task file xray.py (BLAKE3 9f9f9f9f9f9f…), which you gave it."},
    "data": {**DATA, "here": ["xray", "digits"], "what": "It trains on a data set of yours called xray. It is here."},
}


def client_of(items=ITEMS, **answers):
    events = recorded()[:MIDDLE]
    events[0] = {**events[0], "inbox": items}
    return FakeClient(events, {"rounds": rounds_answer(), **ANSWERS, **answers})


async def at_inbox(on, *keys):
    await on.press("i", *keys)
    await on.until(lambda: not on.app.questions.waiting)
    await on.settle()


def told(client, call):
    """The bodies of what was asked for by `call`, with the thing that it was about."""
    return [(parts[1], body) for _, parts, body in client.bodies if parts[-1] == call]


# --- what is known -------------------------------------------------------------------------------------------------
def run(decision="undecided", state="PROPOSED", run_id=XRAY):
    return Run(run_id, name="xray-cnn", decision=decision, state=state, proposer_name="ann")


def test_the_inbox_follows_its_events():
    state = State()
    state.apply({"type": "snapshot", "inbox": ITEMS}, 0.0)
    assert [item.kind for item in state.inbox()] == ["proposal", "joiner", "refused-updates", "low-disk"]
    assert state.apply({"type": "inbox", "inbox": ITEMS[1:2]}, 0.0) == {"inbox"}
    assert [item.kind for item in state.inbox()] == ["joiner"]
    state.apply({"type": "snapshot"}, 0.0)
    assert state.inbox() == ()


def test_it_keeps_step_with_the_runs():
    item = Item(f"proposal-{XRAY}", kind="proposal", run_id=XRAY, needs="answer", actions=("accept",))
    joiner = Item("joiner-1", kind="joiner")
    assert waiting([item, joiner], [run()]) == (item, joiner)
    assert waiting([item, joiner], [run("accepted")]) == (joiner,)
    assert waiting([item], [run(state="FAILED")]) == ()
    assert waiting([item], []) == (item,)  # a run that was not told of
    (early,) = waiting([], [run()])
    assert (early.item_id, early.asks, early.title) == (item.item_id, True, "Run xray-cnn waits for your answer")


@pytest.mark.parametrize("answer", [{}, {"inbox": "x"}, {"inbox": [3, {"id": None, "actions": "x", "time": "y"}]}])
def test_strange_answers_do_no_harm(answer):
    assert all(item.item_id == "" for item in items_of(answer))


@pytest.mark.parametrize("answer", [{}, {"code": 3, "data": [], "configuration": "x", "differences": [1, {}]}])
def test_a_strange_proposal_does_no_harm(answer):
    proposal = proposal_of(answer)
    item = Item("p", kind="proposal", actions=("accept",))
    assert item_page(item, 60, proposal, "")


def test_a_peers_words_come_out_safe():
    text = "a\x1b[2J\nb"
    (item,) = items_of({"inbox": [{"id": "1", "title": text, "text": text}]})
    proposal = proposal_of({"configuration": {text: text}, "differences": [{"key": text, "before": text}]})
    shown = item_page(item, 60, proposal, "")
    assert not any(char in span.text for line in shown for span in line for char in "\x1b\n")
    assert proposal.configuration == (("a·[2J ⏎ b", "a·[2J ⏎ b"),)


# --- the screen ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)])
@pytest.mark.parametrize(("name", "keys"), [("proposal", ("enter",)), ("refused", ("j", "j")), ("accept", ("a",))])
def test_the_inbox_looks_as_it_did(name, keys, size):
    async def scene():
        async with stage(client_of(), size) as on:
            if name == "proposal" and size[0] >= 100:
                await at_inbox(on)
            else:
                await at_inbox(on, *keys)
            compare(f"inbox-{name}_{size[0]}x{size[1]}", on.text())

    play(scene)


def test_the_badge_counts_and_goes():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            assert "i inbox(4)" in on.text()
            await client.say({"type": "inbox", "inbox": ITEMS[:1]})
            await on.until(lambda: len(on.app.state.inbox()) == 1)
            await on.settle()
            assert "i inbox(1)" in on.text()

    play(scene)


def test_enter_opens_the_page_on_a_small_screen_and_then_goes_there():
    async def scene():
        async with stage(client_of(), (80, 24)) as on:
            await at_inbox(on, "j", "j")
            assert "See the reason" not in on.text()
            await on.press("enter")
            assert "See the reason" in on.text()
            await on.press("escape")
            assert "See the reason" not in on.text()
            assert on.app.view.table("inbox").has_focus
            await on.press("enter", "enter")
            assert "digits-mlp" in on.text()
            assert on.app.query_one("#views").current == "view-run"

    play(scene)


def test_enter_goes_to_the_group_where_there_is_no_run():
    async def scene():
        async with stage(client_of()) as on:
            await at_inbox(on, "j", "enter")
            assert on.app.query_one("#views").current == "view-group"
            await on.press("escape")
            assert on.app.query_one("#views").current == "view-inbox"

    play(scene)


def test_who_is_out_is_read_and_put_away():
    async def scene():
        client = client_of([*GONE, *ITEMS[1:2]], **{"revoked-1": {}})
        async with stage(client, (120, 36)) as on:
            await at_inbox(on, "j")
            text = on.text()
            assert "⊘ Your node old-laptop" in text
            assert "− eve is out of hospital-study" in text
            assert "key: have an admin remove you, and join anew" in text
            compare("inbox-revoked_120x36", text)
            await on.press("d")
            await on.until(lambda: told(client, "seen"))
            assert told(client, "seen") == [("revoked-1", {})]
            await on.press("enter")
            assert on.app.query_one("#views").current == "view-group"

    play(scene)


def test_done_tells_the_node_and_a_question_stays():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await at_inbox(on, "d")
            assert "stays until it is answered" in on.told()
            await on.press("j", "d")
            await on.until(lambda: told(client, "seen") == [("joiner-1", {})])

    play(scene)


# --- answers -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "keys"), [((120, 36), ()), ((80, 24), ("enter",))])
def test_accept_is_one_key_where_all_is_here_and_to_be_read(size, keys):
    async def scene():
        client = client_of(proposal=HERE)
        async with stage(client, size) as on:
            await at_inbox(on, *keys)
            assert "South Ward" in on.text()
            on.clock.now += READ_S
            await on.press("a")
            await on.until(lambda: told(client, "accept") == [(XRAY, {})])
            await on.until(lambda: "accepted xray-cnn" in on.told())

    play(scene)


@pytest.mark.parametrize(("size", "keys"), [((80, 24), ()), ((120, 36), ("z",))])
def test_what_is_accepted_is_shown_first_where_its_page_is_not(size, keys):
    async def scene():
        client = client_of(proposal=HERE)
        async with stage(client, size) as on:
            await at_inbox(on, *keys)
            on.clock.now += READ_S
            assert "South Ward" not in on.text()
            await on.press("a")
            await on.until(lambda: isinstance(on.app.screen, Question))
            for words in ("Accept xray-cnn?", "ward-south, a node of South Ward, proposes", "xray.py", "data set of"):
                assert words in " ".join(on.text().replace("┃", " ").split())
            if size == (80, 24):
                compare("inbox-accept-asks_80x24", on.text())
            await on.press("n")
            assert not told(client, "accept")
            await on.press("a")
            await on.agree()
            await on.until(lambda: told(client, "accept") == [(XRAY, {})])

    play(scene)


def test_what_has_only_just_come_into_sight_is_not_accepted_unread():
    async def scene():
        client = client_of([{**ITEMS[0], "id": "proposal-2", "run_id": "two"}, *ITEMS], proposal=HERE)
        async with stage(client) as on:
            await at_inbox(on, "j")
            on.clock.now += READ_S
            await on.press("k")  # as when the one above has gone
            await on.until(lambda: not on.app.questions.waiting)
            on.app.paint()
            await on.press("a")
            await on.until(lambda: isinstance(on.app.screen, Question))
            assert not told(client, "accept")
            await on.press("n")
            on.clock.now += READ_S
            await on.press("a")
            await on.until(lambda: told(client, "accept") == [("two", {})])

    play(scene)


def test_what_is_missing_is_asked_for_before_accepting():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await at_inbox(on, "a")
            form = on.app.screen
            assert isinstance(form, Form)
            form.rows["data"].editor.focus()
            await on.press("right", "enter")
            assert not told(client, "accept")  # the file is not named yet
            await on.press(*"xray.py", "enter")
            assert not told(client, "accept")
            assert "a whole path" in on.text()
            form.rows["task"].value = "/home/ann/xray.py"
            await on.press("enter")
            await on.until(lambda: told(client, "accept") == [(XRAY, {"data": "scans", "task": "/home/ann/xray.py"})])
            await on.until(lambda: not isinstance(on.app.screen, Form))

    play(scene)


def test_a_refusal_stays_in_the_form_with_its_remedy():
    async def scene():
        refusal = ClientError("It is not the run's task file", remedy="name the very file")
        client = client_of(accept=refusal)
        async with stage(client) as on:
            await at_inbox(on, "a")
            on.app.screen.rows["task"].value = "/home/ann/other.py"
            await on.press("enter")
            await on.until(lambda: "name the very file" in on.text())
            assert isinstance(on.app.screen, Form)

    play(scene)


def test_decline_takes_a_reason_and_asks_once():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await at_inbox(on, "x")
            await on.press(*"busy", "enter")
            assert isinstance(on.app.screen, Question)
            await on.press("enter")  # never the destructive thing
            await on.press("enter", "n")
            assert not told(client, "decline")
            await on.press("enter", "y")
            await on.until(lambda: told(client, "decline") == [(XRAY, {"reason": "busy"})])
            await on.until(lambda: "declined xray-cnn" in on.told())

    play(scene)


def test_keys_answer_no_other_run_than_the_one_that_is_looked_at():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await at_inbox(on, "j", "a", "x")
            assert "choose a proposal" in on.told()
            assert not told(client, "accept")
            assert not isinstance(on.app.screen, Form)

    play(scene)


def test_why_a_proposal_is_not_known_is_said():
    async def scene():
        async with stage(client_of(proposal=ClientError("The node does not answer", remedy="see its log"))) as on:
            await at_inbox(on)
            assert "The node does not answer – see its log" in on.text()

    play(scene)


def test_a_record_shows_what_it_can_tell(tmp_path):
    path = tmp_path / "store.duckdb"
    store = Store(path)
    store.write([RunRow("r1", "digits-mlp", "p", "e", "g", "digits", "d", "n1", 3, 1_790_000_000.0, "{}")])
    store.write([StatusRow("r1", "", "FAILED", "too few nodes", 0, 1_790_000_009.0, 1, "n1")])
    store.close()

    async def scene():
        feed = StoreFeed(path)
        async with stage(None, feed=feed) as on:
            await at_inbox(on)
            assert "Run digits-mlp has failed: too few nodes." in " ".join(on.text().replace("│", " ").split())
            await on.press("d")
            await on.until(lambda: "this is a record" in on.told())
        feed.close()

    play(scene)
