"""Forms without a screen: what fields refuse, TOML that is changed key by key, a proposal's fields."""

import tomllib

import pytest

from node.run.proposal import templates
from tui.facts.forms import Field, at_most, length_of_time, seconds, whole_number
from tui.facts.proposal import ASKED, OWN_FILE, Templates, Verdict
from tui.facts.toml_text import literal, read, with_key

TEXT = """\
# ours
name = "first"  # a name

[task]
name = "digits"

[training]  # how
rounds = 10
# epochs = 3
epochs = 1

[roster]
nodes_min = 2
"""


def test_a_field_says_what_is_wrong():
    uses = Field("uses", "uses", needed=True, check=whole_number(1, 10_000))
    assert [uses.trouble(text) for text in ("", "0", "1", "10001", "x")] == [
        "this is needed",
        "a whole number from 1 to 10,000",
        "",
        "a whole number from 1 to 10,000",
        "a whole number from 1 to 10,000",
    ]
    assert Field("x", "x").trouble("") == ""
    assert Field("x", "x", choices=("", "a", "b")).trouble("c") == "one of: a, b"
    assert at_most(3)("abcd") == "at most 3 characters"


@pytest.mark.parametrize(
    ("text", "length"), [("90s", 90), ("12h", 43_200), ("2W", 1_209_600), ("0d", 0), ("7", 0), ("x", 0), ("1 d", 0)]
)
def test_lengths_of_time(text, length):
    assert seconds(text) == length
    assert bool(length_of_time(10**9)(text)) == (length == 0)


def test_an_invitation_for_longer_than_a_year_is_refused():
    assert length_of_time(366 * 86_400)("53w") == "at most 366 days"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.rounds", "20"),
        ("training.epochs", "5"),
        ("training.momentum", "0.9"),
        ("roster.nodes_max", "9"),
        ("name", '"second"'),
        ("project", '"p"'),
        ("aggregation.rule", '"mean"'),
    ],
)
def test_one_key_is_changed_and_nothing_else(key, value):
    changed = with_key(TEXT, key, value)
    before, after = tomllib.loads(TEXT), tomllib.loads(changed)
    section, _, leaf = key.rpartition(".")
    expected = {**before, section: {**before.get(section, {})}} if section else dict(before)
    (expected[section] if section else expected)[leaf] = tomllib.loads(f"x = {value}")["x"]
    assert after == expected
    assert "# ours" in changed
    assert "# epochs = 3" in changed
    assert with_key(changed, key, value) == changed
    assert key not in read(with_key(changed, key, ""))


def test_a_key_that_is_taken_out_and_set_again_keeps_its_place():
    assert with_key(with_key(TEXT, "training.epochs", ""), "training.epochs", "1") == TEXT
    assert "#epochs = 1" in with_key(TEXT, "training.epochs", "")
    assert with_key("#rounds = 1\n", "rounds", "2") == "rounds = 2\n"
    assert with_key("[a]\n", "b", "") == "[a]\n"


def test_what_is_typed_becomes_toml():
    assert literal("10", "whole number") == "10"
    assert literal("1e-3", "number") == "1e-3"
    assert literal("ten", "whole number") == '"ten"'
    assert literal("1; x = 2", "number") == '"1; x = 2"'
    assert literal("01", "number") == '"01"'
    assert tomllib.loads(f"x = {literal(chr(127) + chr(34) + chr(10), 'text')}")["x"] == '\x7f"\n'


def test_reading_gives_plain_values_as_they_are_typed():
    assert read(TEXT)["training.rounds"] == "10"
    assert read("a = true\nb = [1]\n[c]\nd = 0.5\ne = {x = 1}\n") == {"a": "true", "c.d": "0.5"}
    assert read("a = ") is None


def test_a_proposals_fields_come_from_the_nodes_keys():
    known = Templates.of(templates(), ("wards",))
    fields = {field.name: field for field in known.fields}
    assert tuple(fields) == ASKED
    assert fields["task.name"].choices == ("digits", "tabular", OWN_FILE)
    assert fields["data.name"].suggestions == ("wards",)
    assert fields["training.rounds"].value == "10"
    assert "from 1 to 1,000,000" in fields["training.rounds"].help


def test_another_template_brings_its_data_sets_name():
    known = Templates.of(templates(), ())
    text = known.changed(known.texts["digits"], "task.name", "tabular")
    assert tomllib.loads(text)["data"]["name"] == tomllib.loads(text)["task"]["name"] == "tabular"
    own = known.changed(known.changed(text, "task.name", OWN_FILE), "task.path", "/x/my_task.py")
    assert tomllib.loads(own)["task"] == {"path": "/x/my_task.py"}
    back = known.changed(known.changed(own, "data.name", "wards"), "task.name", "digits")
    assert tomllib.loads(back)["task"] == {"name": "digits"}
    assert tomllib.loads(back)["data"]["name"] == "wards"


def test_a_verdict_is_safe_to_show():
    problem = {"key": "training.rounds", "what": "it is \x1b[31m0", "remedy": "give more"}
    verdict = Verdict.of({"problems": [problem], "taken_as": ["a"], "warnings": ["b"]})
    assert verdict.troubles == (("training.rounds", "it is ·[31m0 – give more"),)
    assert verdict.notes == ("a", "b")
    assert not verdict.is_good
    assert Verdict.of({}).is_good
