"""What MODEL means: tables of texts and the models that they name, over a record with two runs and a registry."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from node.api.service.service import NotFound
from node.record.model_names import (
    NAME_CHARACTERS_MAX,
    check_alias,
    check_name,
    model_named,
    models_of,
)
from protocol.errors import Refused
from tracker.queries.asking import answered_now
from tracker.queries.lineage import lineage_of
from tracker.queries.reader import Reader
from tracker.store import Store
from tracker.tables.rows import MetricRow, ModelAliasRow, ModelRow, RegisteredModelRow, RunRow

FIRST, SECOND, THIRD = "a1" * 32, "b2" * 32, "a1b2" + "c3" * 30
SCHEMA = "5c" * 32
DAY = 1_767_225_600.0


def blob(run: str, round_number: int) -> str:
    return f"{round_number:02x}{run[:2]}{'00' * 30}"


def run_row(run_id: str, name: str, created_at: float) -> RunRow:
    manifest = f'{{"name": "{name}", "parent": "{FIRST}", "seed": 7, "task": {{"hash": "7a", "parameters": {{}}}}}}'
    return RunRow(run_id, name, "p", "e", "g1", "task.py", "digits", "n1", 5, created_at, manifest)


def rows() -> list[Any]:
    """`study` twice: an older run with rounds 0 to 3, a newer one with 0 and 1; `other:2`, a run that is called so; and
    `reader`, a registered name with versions of the rounds 2 and 3 of the first."""
    made: list[Any] = [
        run_row(FIRST, "study", DAY),
        run_row(SECOND, "study", DAY + 100),
        run_row(THIRD, "other:2", DAY + 50),
        *(ModelRow(FIRST, number, blob(FIRST, number), SCHEMA, 1000, DAY + number) for number in range(4)),
        ModelRow(SECOND, 0, blob(FIRST, 3), SCHEMA, 1000, DAY + 101),  # it began where the first ended
        ModelRow(SECOND, 1, blob(SECOND, 1), SCHEMA, 1000, DAY + 102),
        ModelRow(THIRD, 2, blob(THIRD, 2), SCHEMA, 1000, DAY + 60),
        RegisteredModelRow("reader", 1, FIRST, 2, blob(FIRST, 2), SCHEMA, DAY + 200),
        RegisteredModelRow("reader", 2, FIRST, 3, blob(FIRST, 3), SCHEMA, DAY + 201),
        RegisteredModelRow("Reader", 1, SECOND, 1, blob(SECOND, 1), SCHEMA, DAY + 202),
        RegisteredModelRow("taken-away", 1, FIRST, 1, blob(FIRST, 1), SCHEMA, DAY + 203, removed=True),
        ModelAliasRow("reader", "champion", 1, DAY + 204),
        ModelAliasRow("reader", "Champion", 2, DAY + 205),
        ModelAliasRow("reader", "retired", 2, DAY + 206, removed=True),
    ]
    for number, (node, accuracy, samples) in enumerate([("n1", 0.5, 100), ("n2", 0.9, 300)]):
        made.append(
            MetricRow(FIRST, node, "global", "eval", "accuracy", None, 2, 0, 0, accuracy, samples, DAY, node, number)
        )
    return made


class Asked:
    """The record, and `model(text)`: run, round, and the version by which it was found."""

    def __init__(self, more: list[Any]) -> None:
        self.store = Store(None)
        self.store.write([*rows(), *more])
        self.reader: Reader = self.store.reader()

    def __call__(self, text: str) -> dict[str, Any]:
        return answered_now(model_named(text), self.reader.query)

    def model(self, text: str) -> tuple[str, int, int]:
        found = self(text)
        return found["run_id"], found["round"], found["version"]


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> Iterator[Asked]:
    made = Asked(getattr(request, "param", []))
    yield made
    made.reader.close()
    made.store.close()


@pytest.mark.parametrize(
    ("text", "run", "round_number", "version"),
    [
        ("study", SECOND, 1, 0),  # the newest run of that name, its newest model
        ("study:0", SECOND, 0, 0),
        (FIRST, FIRST, 3, 0),
        (f"{FIRST}:2", FIRST, 2, 0),
        ("b2b2", SECOND, 1, 0),
        ("b2b2:1", SECOND, 1, 0),
        ("other:2", THIRD, 2, 0),  # a run's name may look like a round
        ("other:2:2", THIRD, 2, 0),
        ("reader", FIRST, 3, 2),
        ("reader@newest", FIRST, 3, 2),
        ("reader@champion", FIRST, 2, 1),
        ("reader@Champion", FIRST, 3, 2),  # cases count
        ("Reader", SECOND, 1, 1),
        ("reader:1", FIRST, 2, 1),
        ("reader@1", FIRST, 2, 1),
        ("reader@01", FIRST, 2, 1),
        (blob(FIRST, 1), FIRST, 1, 0),
        (blob(FIRST, 1)[:8], FIRST, 1, 0),
        (blob(FIRST, 3)[:10], FIRST, 3, 0),  # of the run that made it, not of the one that began with it
    ],
)
def test_what_a_text_names(asked: Asked, text: str, run: str, round_number: int, version: int) -> None:
    assert asked.model(text) == (run, round_number, version)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nobody", "No model is called 'nobody', and no run"),
        ("study:7", "There is no checkpoint of round 7 of the run study here"),
        ("reader:7", "reader has no '7': its versions end with 2, its aliases are Champion, champion"),
        ("reader@retired", "reader has no 'retired'"),
        ("reader@", "reader has no ''"),
        ("taken-away", "No model is called"),
        ("taken-away@1", "No model is called"),
        ("READER", "No model is called"),
        ("study@champion", "No model is called"),
        ("b2", "No model is called"),  # too short for the beginning of an id
        ("ffffffff", "No model is called"),
        ("study:-1", "No model is called"),
        ("study:" + "9" * 30, "No model is called"),
        ("reader@" + "9" * 30, "reader has no"),
        ("study:١", "No model is called"),  # a digit to Python, not to us
        ("'; DROP TABLE models; --", "No model is called"),
        ("%", "No model is called"),
        ("../reader", "No model is called"),
        ("a1b", "No model is called"),
        ("x" * 5000, "No model is called"),
        (":", "No model is called"),
        ("@", "No model is called"),
        ("@champion", "No model is called"),
        (":3", "No model is called"),
    ],
)
def test_what_names_nothing_says_why(asked: Asked, text: str, why: str) -> None:
    with pytest.raises(NotFound) as refused:
        asked(text)
    assert why in refused.value.what
    assert len(refused.value.what) < 400
    assert asked.model("study")[0] == SECOND


SAME_NAME = [RegisteredModelRow("study", 4, FIRST, 2, blob(FIRST, 2), SCHEMA, DAY + 300)]
SAME_MODEL = [RegisteredModelRow("study", 4, SECOND, 1, blob(SECOND, 1), SCHEMA, DAY + 300)]


@pytest.mark.parametrize("asked", [SAME_NAME], indirect=True)
def test_a_text_with_two_meanings_is_refused_with_both_spelt_out(asked: Asked) -> None:
    with pytest.raises(Refused) as refused:
        asked("study")
    assert refused.value.code == "ambiguous"
    spelt = refused.value.remedy.removeprefix("write ").split(" or ")
    assert [asked.model(text) for text in spelt] == [(FIRST, 2, 4), (SECOND, 1, 0)]
    assert asked.model("study:1") == (SECOND, 1, 0)  # there is no such version
    assert asked.model("study:4") == (FIRST, 2, 4)  # and no such round


@pytest.mark.parametrize("asked", [SAME_MODEL], indirect=True)
def test_two_meanings_that_are_one_model_are_no_trouble(asked: Asked) -> None:
    assert asked.model("study") == (SECOND, 1, 4)


def test_a_hash_that_begins_several_models_is_refused(asked: Asked) -> None:
    asked.store.write([ModelRow(THIRD, 3, blob(FIRST, 1)[:20] + "1" * 44, SCHEMA, 1000, DAY)])
    with pytest.raises(Refused, match="2 models begin with") as refused:
        asked(blob(FIRST, 1)[:8])
    first, second = refused.value.remedy.removeprefix("write ").split(" or ")
    assert {asked.model(first), asked.model(second)} == {(FIRST, 1, 0), (THIRD, 3, 0)}


def test_a_model_knows_its_names_and_figures(asked: Asked) -> None:
    found = asked("study:1")
    assert found["names"] == [{"name": "Reader", "version": 1, "aliases": []}]
    found = asked(f"{FIRST}:2")
    assert found["names"] == [{"name": "reader", "version": 1, "aliases": ["champion"]}]
    assert found["accuracy"] == pytest.approx(0.8)  # weighted by samples
    assert found["loss"] is None


def test_lists(asked: Asked) -> None:
    def listed(of: str | None) -> list[tuple[str, int, str, int]]:
        found = answered_now(models_of(of), asked.reader.query)
        return [(entry["name"], entry["version"], entry["run_id"], entry["round"]) for entry in found]

    assert listed(None) == [("Reader", 1, SECOND, 1), ("reader", 2, FIRST, 3), ("reader", 1, FIRST, 2)]
    assert listed("reader") == [("reader", 2, FIRST, 3), ("reader", 1, FIRST, 2)]
    assert listed("study") == [("", 0, SECOND, 1), ("", 0, SECOND, 0)]
    with pytest.raises(NotFound, match="Neither a registered model nor a run"):
        listed("nobody")
    asked.store.write(SAME_NAME)
    assert listed("study") == [("study", 4, FIRST, 2), ("", 0, SECOND, 1), ("", 0, SECOND, 0)]


def test_lineage(asked: Asked) -> None:
    told = answered_now(lineage_of(asked("study")), asked.reader.query)
    lineage = told["lineage"]
    assert (lineage["parent"], lineage["task_hash"], lineage["seed"]) == (FIRST, "7a", 7)
    assert told["evaluations"] == []
    unknown = {**asked("study"), "run_id": "ff" * 32}  # a registered model whose run the record has lost
    assert answered_now(lineage_of(unknown), asked.reader.query)["lineage"]["parent"] == ""


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "0", "x" * NAME_CHARACTERS_MAX])
def test_names_that_do(name: str) -> None:
    check_name(name)


BAD = ["", "-a", ".a", "_a", "a b", "a/b", "a@b", "a:1", "ä", "a\n", "a\0", "x" * (NAME_CHARACTERS_MAX + 1), "‮a"]


@pytest.mark.parametrize("name", BAD)
def test_names_that_do_not(name: str) -> None:
    with pytest.raises(Refused) as refused:
        check_name(name)
    assert refused.value.code == "bad-name"


@pytest.mark.parametrize("alias", [*BAD, "1", "3rd", "newest"])
def test_aliases_that_do_not(alias: str) -> None:
    with pytest.raises(Refused) as refused:
        check_alias(alias)
    assert refused.value.code == "bad-alias"


def test_kept_models_are_those_that_stand(asked: Asked) -> None:
    kept = {row["blob"] for row in asked.reader.query("kept_models", {})}
    assert kept == {SCHEMA, blob(FIRST, 2), blob(FIRST, 3), blob(SECOND, 1)}
    asked.store.write([dataclasses.replace(row, removed=True) for row in rows() if isinstance(row, RegisteredModelRow)])
    assert asked.reader.query("kept_models", {}) == []
