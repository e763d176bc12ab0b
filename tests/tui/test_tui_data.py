"""The view of data sets, models and artifacts: what it shows, when it asks again, and what can be done from it."""

import pytest
from tui_answers_data import ANSWERS, MODELS, SETS, model
from tui_fakes import FakeClient, recorded
from tui_stage import play, stage
from tui_store_ground import START, store_of

from fednode import ClientError
from tracker.tables.rows import (
    ArtifactRow,
    DataSetRow,
    EvaluationRow,
    ModelAliasRow,
    ModelRow,
    RegisteredModelRow,
    RunRow,
)
from tui.facts.asks import ANSWERS_MAX, asking
from tui.feeds.store import StoreFeed
from tui.views.data_rows import box, statistic_in_full, statistic_note, statistic_rows
from tui.views.model_rows import artifact_rows, fact_rows, model_key, model_rows

RUN = "005f3a9c2e7b41d8"
BROAD, SMALL = (200, 60), (80, 24)


def client_of(**answers):
    return FakeClient(recorded()[:110], {**ANSWERS, **answers})


def test_the_tabs_show_one_at_a_time_on_a_small_screen_and_all_on_a_broad_one():
    async def scene(size):
        async with stage(client_of(), size) as on:
            await on.press("6")
            await on.at_rest()
            for words in ("a91c33d04e5f", "18,240", "Statistics of patients", "! 12", "39% north"):
                assert words in on.text()
            is_broad = size == BROAD
            assert ("@production" in on.text()) == is_broad
            assert ("confusion.png" in on.text()) == is_broad
            await on.press("e")
            await on.at_rest()
            for words in ("@production", "✗ gone", "accuracy 0.9417"):
                assert words in on.text()
            assert ("ward-north (trainer): 1,200 samples" in on.text()) == is_broad
            await on.press("f")
            await on.at_rest()
            assert "confusion.png" in on.text()
            assert on.app.focused.id == "made"

    play(lambda: scene(SMALL))
    play(lambda: scene(BROAD))


def test_nothing_is_asked_again_without_need():
    async def scene():
        client = client_of()
        async with stage(client, BROAD) as on:
            await on.press("6")
            await on.at_rest()
            asked = len(client.asked)
            await on.at_rest()
            assert len(client.asked) == asked
            await client.say({"type": "changed", "what": "models"})
            await on.until(lambda: client.told == len(client.events_told))
            await on.at_rest()
            again = client.asked[asked:]
            assert ("models",) in again
            assert ("data",) not in again
            asked = len(client.asked)
            await client.say({"type": "changed", "what": "data"})
            await on.until(lambda: client.told == len(client.events_told))
            await on.at_rest()
            assert {("data",), ("patients", "data")} <= set(client.asked[asked:])
            assert ("models",) not in client.asked[asked:]

    play(scene)


def test_moving_the_cursor_shows_another_sets_statistics_and_another_models_lineage():
    async def scene():
        async with stage(client_of(), SMALL) as on:
            await on.press("6", "j")
            await on.at_rest()
            assert "healthy" in on.text()
            assert "9,000 files" in on.text()
            await on.press("j")
            await on.at_rest()
            assert "the file is damaged" in on.text()
            await on.press("e", "j")
            await on.at_rest()
            assert "digits:2 @production" in on.text()

    play(scene)


def test_a_column_is_shown_with_all_that_is_known_of_it():
    async def scene():
        async with stage(client_of(), SMALL) as on:
            await on.press("6", "tab", "j", "enter")
            await on.at_rest()
            text = on.text()
            assert "ward of patients" in text
            assert "7,200" in text

    play(scene)


def test_what_a_person_does_with_a_model_opens_the_commands_form():
    async def scene():
        opened = []
        async with stage(client_of(), SMALL) as on:
            on.app.open_command = lambda path, given=None: opened.append((path, given))
            await on.press("6", "plus", "e")
            await on.at_rest()
            await on.press("T", "U", "w", "j", "j", "U", "f")
            await on.at_rest()
            await on.press("w")
        assert opened == [
            (("data", "add"), None),
            (("model", "tag"), {"name": "digits@3"}),
            (("model", "untag"), {"entry": "digits@candidate"}),
            (("model", "get"), {"name": "digits@3"}),
            (("artifacts", "get"), {"run_name": RUN, "name": "confusion.png", "node": "12D3KooWaaaaaa000war"}),
        ]
        assert "no alias" in on.told()

    play(scene)


def test_models_without_a_name_are_those_of_the_chosen_run_when_asked_for():
    async def scene():
        client = client_of(models={"models": []})
        async with stage(client, SMALL) as on:
            await on.press("6", "e")
            await on.at_rest()
            assert "no model has a name: u lists those" in on.text()
            unnamed = [{**each, "name": "", "version": 0, "aliases": [], "names": []} for each in MODELS[:2]]
            client.answers["models"] = {"models": unnamed}
            await on.press("u")
            await on.at_rest()
            assert "no name" in on.text()
            assert on.app.view.looked_at()["model"] == f"{RUN}:6"

    play(scene)


def test_artifacts_of_all_runs_or_of_one_and_the_filter_of_the_tab():
    async def scene():
        client = client_of()
        async with stage(client, SMALL) as on:
            await on.press("6", "f")
            await on.at_rest()
            assert ("artifacts", RUN) in client.asked
            await on.press("A")
            await on.at_rest()
            assert ("artifacts",) in client.asked
            assert "Artifacts of all runs 3" in on.text()
            await on.press("slash", *"misread", "enter")
            await on.at_rest()
            assert "1 of 3 /misread" in on.text()
            assert on.app.focused.id == "made"

    play(scene)


def test_why_there_is_no_answer_stands_in_its_place():
    async def scene():
        gone = ClientError("The file has gone", remedy="put it back")
        async with stage(client_of(patients=gone, models=gone), BROAD) as on:
            await on.press("6")
            await on.at_rest()
            assert on.text().count("The file has gone – put it back") >= 2

    play(scene)


def test_an_answer_that_had_to_give_way_to_others_is_asked_for_again():
    async def scene():
        client = client_of()
        async with stage(client, SMALL) as on:
            await on.press("6")
            await on.at_rest()
            shown, asked = on.text(), len(client.asked)
            for number in range(ANSWERS_MAX):
                on.app.state.answers.take(asking("elsewhere", str(number)), {})
            await on.at_rest()
            assert len(client.asked) > asked
            assert on.text() == shown

    play(scene)


def rows():
    yield DataSetRow("digits", "/x", "npz", 900, "f1", '{"target": "y"}', START, False, '{"rows": 7, "columns": []}')
    manifest = '{"parent": "older", "seed": 7, "task": {"hash": "7a", "parameters": {"hidden": 8}}}'
    yield RunRow("run-1", "digits-mlp", "p", "e", "g", "digits", "digits", "n-one", 3, START, manifest)
    for at in (1, 2):
        yield ModelRow("run-1", at, f"{at}b", "5c", 100, START + at)
    yield RegisteredModelRow("digits", 1, "run-1", 2, "2b", "5c", START)
    yield ModelAliasRow("digits", "production", 1, START)
    yield EvaluationRow("2b", "run-1", 2, "digits", "f1", 90, '{"accuracy": 0.91}', START, "n-one", 1, "held-out")
    yield ArtifactRow("run-1", "n-one", "picture.png", "figure", "ef", 2_000, START, 2, '{"width": 3}')


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "store.duckdb", rows())


def test_a_record_shows_the_same(store):
    async def scene():
        feed = StoreFeed(store)
        async with stage(None, BROAD, feed=feed) as on:
            await on.press("6")
            await on.at_rest()
            await on.press("u")
            await on.at_rest()
            text = on.text()
            for words in ("digits", "7 rows", "@production", "– ?", "accuracy 0.9100 on digits (90 samples, held-out)"):
                assert words in text
            for words in ("goes on from   older", "hidden = 8", "picture.png", "no name"):
                assert words in text
            await on.press("j")
            await on.at_rest()
            assert "run            digits-mlp, round 1" in on.text()
        feed.close()

    play(scene)


def test_boxes_and_bars_keep_within_their_cells():
    assert box(0.0, [25.0, 50.0, 75.0], 100.0, 9) == "├─▒▒█▒▒─┤"
    assert box(0.0, [0.0, 0.0, 100.0], 100.0, 5) == "█▒▒▒▒"
    for nothing in (box(1.0, [1.0, 1.0, 1.0], 1.0, 9), box(None, [], None, 9), box(0.0, [1.0], 2.0, 9)):
        assert nothing == ""
    assert len(box(0.0, [-5.0, 500.0, 7e300], 1.0, 9)) == 9


def test_nonsense_from_elsewhere_breaks_nothing():
    for statistics in (
        None,
        7,
        [],
        {"columns": [{}, 3, {"name": "x", "top": [[1], 2, ["a", "b"]]}], "suffixes": [[1, 2]]},
    ):
        answer = {"statistics": statistics}
        statistic_rows(answer), statistic_note(answer), statistic_in_full(answer, "x")
    for answer in ({}, {"lineage": 3, "evaluations": [{}, 4]}, {"lineage": {"data": [{}]}, "names": [{}]}):
        fact_rows(answer, {})
    assert model_rows({"models": [{}]})[0].key == ":0"
    artifact_rows({"artifacts": [{"details": 3}, {}]}, {})
    assert model_key(model(3, 6, 0.5)) == "digits@3"
    assert "[b]" in statistic_rows({"statistics": {"columns": [{"name": "[b]"}]}})[0].cells[0].text
    assert SETS[0]["rows"] == 18_240
