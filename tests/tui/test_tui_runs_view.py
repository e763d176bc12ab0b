"""The view of all runs at the keyboard: pages as one scrolls, filter, sort, groups, marks; and runs side by side."""

import pytest
from tui_fakes import FakeClient
from tui_run_ground import ListClient, run_json
from tui_stage import play, stage

from tui.facts.compare import differing, names_of
from tui.facts.parameters import parameters_of
from tui.facts.runs import Run
from tui.views.compare import CompareView
from tui.views.runs import RunsView
from tui.widgets.row_table import RowTable


def table(on):
    return on.app.query_one("#runs", RowTable)


def first_names(on):
    return [line.split()[1] for line in on.text().splitlines() if " study-" in line]


def test_only_pages_in_sight_are_asked_for():
    async def scene():
        client = ListClient(10_000)
        async with stage(client) as on:
            await on.press("2")
            await on.at_rest()
            assert "Runs 10,000" in on.text()
            assert {page["offset"] for page in client.pages} == {0}
            assert all(page["brief"] for page in client.pages)
            await on.press("G")
            await on.at_rest()
            assert "study-0 " in on.text()
            assert {page["offset"] for page in client.pages} == {0, 9900}
            await on.press("g")
            await on.at_rest()
            assert table(on).cursor_key == f"{9999:08x}"
            assert len(client.pages) <= 6

    play(scene)


def test_the_wheel_brings_pages_too():
    async def scene():
        client = ListClient(1_000)
        async with stage(client) as on:
            await on.press("2")
            await on.at_rest()
            table(on).scroll_to(y=600, animate=False)
            await on.until(lambda: any(page["offset"] == 600 for page in client.pages))
            await on.at_rest()
            assert "study-399" in on.text()

    play(scene)


def test_a_run_that_only_the_list_has_can_be_looked_at():
    async def scene():
        client = ListClient(1_000)
        async with stage(client) as on:
            await on.press("2")
            await on.at_rest()
            await on.press("G")
            await on.at_rest()
            assert on.app.glance.run.name == "study-0"
            await on.press("enter")
            await on.at_rest()
            assert "study-0" in on.text()
            await on.press("right_square_bracket")
            assert on.app.glance.run.name == "study-999", "and from there to the newest"

    play(scene)


def test_typing_searches_all_runs_of_the_node():
    async def scene():
        client = ListClient(1_000)
        async with stage(client) as on:
            await on.press("2", "slash", *"study-123")
            on.clock.now += 2
            await on.press("enter")
            await on.at_rest()
            assert "Runs 1 of 1,000 /study-123" in on.text()
            assert first_names(on) == ["study-123"]
            await on.press("escape")
            await on.at_rest()
            assert "Runs 1,000" in on.text()
            await on.press("slash", *"nothing has this")
            await on.at_rest()
            assert "no run has this" in on.text()

    play(scene)


def test_the_order_goes_through_the_columns_and_turns_round():
    async def scene():
        client = ListClient(300)
        async with stage(client) as on:
            await on.press("2", *"ssss")
            await on.at_rest()
            assert "accuracy↓" in on.text()
            best = max(client.all_runs, key=lambda run: run["accuracy"])
            assert first_names(on)[0] == best["name"] == on.app.glance.run.name
            await on.press("r")
            await on.at_rest()
            assert "accuracy↑" in on.text()
            worst = min(client.all_runs, key=lambda run: run["accuracy"])
            assert first_names(on)[0] == worst["name"]

    play(scene)


def test_projects_have_headings_and_fold_away():
    async def scene():
        client = ListClient(400)
        async with stage(client) as on:
            await on.press("2", "b")
            await on.at_rest()
            assert "▾ project-0" in on.text()
            assert "100 runs" in on.text()
            await on.press("g", "enter")
            await on.at_rest()
            assert "▸ project-0" in on.text()
            assert "▾ project-1" in on.text()
            assert first_names(on)[0] == "study-397"
            await on.press("enter", "j")
            assert on.app.glance.run.name == "study-396"

    play(scene)


def test_an_event_changes_its_row_alone():
    async def scene():
        client = ListClient(200)
        async with stage(client) as on:
            await on.press("2")
            await on.at_rest()
            await on.press("g")
            asked = len(client.pages)
            await client.say({"type": "run", "run": run_json(195, state="RUNNING", ended_at=None, seconds_left=90.0)})
            await on.until(lambda: on.app.state.run(f"{195:08x}").state == "RUNNING")
            await on.settle()
            line = next(line for line in on.text().splitlines() if "study-195" in line)
            assert "▶ RUNNING" in line
            assert "90 s" in line
            assert len(client.pages) == asked, "what events tell is not asked for"

    play(scene)


def test_a_new_run_comes_to_its_place():
    async def scene():
        client = ListClient(200)
        async with stage(client) as on:
            await on.press("2")
            await on.at_rest()
            await on.press("g")
            new = run_json(200, state="PROPOSED", ended_at=None, started_at=None)
            client.all_runs.append(new)
            await client.say({"type": "run", "run": new})
            await on.until(lambda: on.app.state.runs_total == 201)
            await on.at_rest()
            assert "Runs 201" in on.text()
            assert first_names(on)[0] == "study-200"
            assert table(on).cursor_key != new["run_id"], "the cursor stays on its run"

    play(scene)


def test_a_node_that_knows_no_pages_still_shows_what_it_told():
    async def scene():
        events = [{"type": "snapshot", "runs": [run_json(at) for at in range(40)], "runs_total": 40}]
        for answer in ({"runs": []}, ValueError("The request does not fit")):
            async with stage(FakeClient(events, {"runs": answer})) as on:
                await on.press("2", "s")
                await on.at_rest()
                assert "name↑" in on.text()
                assert first_names(on)[0] == "study-0"
                assert ("The request does not fit" in on.text()) is isinstance(answer, ValueError)

    play(scene)


def test_there_is_room_for_the_run_beside_the_list():
    async def scene():
        async with stage(ListClient(100), (200, 60)) as on:
            await on.press("2")
            await on.at_rest()
            assert on.app.query_one(RunsView).has_class("-roomy")
            assert "project-2 / baseline" in on.text()

    play(scene)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)])
def test_marked_runs_stand_side_by_side(size):
    async def scene():
        client = ListClient(100)
        async with stage(client, size) as on:
            await on.press("2", "g", "c", "j", "c", "j", "j", "c", "c")
            await on.at_rest()
            assert on.text().count("◆") == 2
            assert "2 marked: 4 compares" in on.text()
            await on.press("4")
            await on.at_rest()
            text = on.text()
            assert "A study-99" in text
            assert "B study-98" in text
            await on.press("G")
            await on.at_rest()
            assert "2 parameters differ" in (text + on.text())
            await on.press("C")
            assert not on.app.choice.marked

    play(scene)


def test_more_runs_than_fit_are_gone_through_sideways():
    async def scene():
        async with stage(ListClient(100), (80, 24)) as on:
            await on.press("2", "g", *("c", "j") * 9)
            assert len(on.app.choice.marked) == 8, "no more than there are colours"
            assert "at most 8 runs side by side" in on.told()
            await on.press("4")
            await on.at_rest()
            assert "1 to 4 in sight" in on.text()
            await on.press("right", "right")
            await on.at_rest()
            assert "3 to 6 in sight" in on.text()
            heading = on.text().splitlines()[2]
            assert [name in heading for name in ("B study", "C study-97", "F study-94", "G study")] == [0, 1, 1, 0]
            await on.press("left", "left", "left")
            assert on.app.query_one(CompareView)._first == 0

    play(scene)


def test_unmarked_the_newest_finished_are_compared_and_curves_overlaid():
    async def scene():
        figures = [
            {"run_id": f"{at:08x}", "node_id": "", "scope": "global", "split": "eval", "key": key, "round": turn}
            | {"value": turn / 40 + at / 1000, "samples": 10, "epoch": 0, "step": 0}
            for at in (99, 98, 97, 96)
            for key in ("accuracy", "loss")
            for turn in range(1, 21)
        ]
        client = ListClient(100, {"metrics": {"metrics": figures}})
        async with stage(client, (120, 36)) as on:
            await on.press("4")
            await on.at_rest()
            text = on.text()
            assert "the newest" in text
            assert "accuracy, shared model" in text
            for name in ("A study-99", "B study-98", "C study-97", "D study-96"):
                assert text.count(name) == 2, "in the table and at its curve"
            await on.press("m")
            await on.at_rest()
            assert "loss, shared model" in on.text()
            await on.press("enter")
            assert "study-98" in on.text()

    play(scene)


def test_parameters_that_differ_are_lined_up_and_the_name_is_none():
    given = [
        {"manifest": {"name": "a", "training": {"rate": 0.1, "rounds": 5}, "tags": ["x", "y"], "audit": True}},
        {"manifest": {"name": "b", "training": {"rate": 0.01, "rounds": 5}, "tags": [], "audit": True}},
    ]
    assert differing([parameters_of(each) for each in given]) == {
        "tags": ["x, y", "–"],
        "training.rate": ["0.1", "0.01"],
    }
    assert parameters_of({"manifest": "odd"}) is None


def test_runs_of_one_name_are_told_apart():
    runs = [Run.of(run_json(at, name="same")) for at in (1, 2)] + [Run.of(run_json(3))]
    assert list(names_of(runs).values()) == ["A same 000000", "B same 000000", "C study-3"]
