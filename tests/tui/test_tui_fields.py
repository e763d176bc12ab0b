"""Reading what a node says: nothing raises, and what comes out is fit for a terminal."""

import json

import pytest
from textual.app import App
from tui_stage import play

from tui.facts.fields import measure, moment, number, text, texts
from tui.facts.parameters import ABSENT, parameters_of
from tui.facts.proposal import Templates
from tui.facts.toml_text import read
from tui.widgets.propose import ProposeForm

DEPTH = 900  # JSON's reader takes it; a text made of it takes more


def nested(left, right, inside="1"):
    return json.loads(left * DEPTH + inside + right * DEPTH)


def deeper(times, do):
    """Where the dashboard stands when it reads: far from the bottom of the stack."""
    return do() if times == 0 else deeper(times - 1, do)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), "7", None, [7], {}])
def test_no_number_is_0_or_none(value):
    assert number({"n": value}, "n") == 0
    assert measure({"n": value}, "n") is None


@pytest.mark.parametrize("value", [7, -7, 2**63, 7.9, True])
def test_a_number_stays_exact(value):
    assert number({"n": value}, "n") == int(value)


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "x", 5])
def test_a_time_that_another_zone_would_carry_out_of_the_calendar_is_none(value):
    assert moment({"t": value}, "t") is None


def test_what_is_nested_too_deep_for_a_text_is_empty():
    source = {"t": nested("[", "]"), "many": [nested("[", "]"), "b"]}
    assert deeper(80, lambda: text(source, "t")) == ""
    assert deeper(80, lambda: texts(source, "many")) == ("", "b")


def test_a_deep_manifest_is_read_as_far_as_one_can_see():
    deep = {"manifest": {"a": nested('{"b":', "}"), "c": nested("[", "]"), "d": [[1, 2], [3]]}}
    told = deeper(80, lambda: parameters_of(deep))
    assert told["d"] == "1, 2, 3"
    assert told["c"] == ABSENT
    assert len(told) == 3


def test_a_template_has_its_lines_and_no_commands_for_the_terminal():
    told = {
        "templates": [{"task": "t", "config": 'name = "a\x1b[2J"\n\tseed = 7\n'}, {"task": "u", "config": "\x1b]0;x"}]
    }
    texts_of = Templates.of(told, ()).texts
    assert texts_of["t"] == 'name = "a·[2J"\n        seed = 7\n'
    assert texts_of["u"] == "·]0;x"


def test_a_field_shows_no_command_that_a_text_spells_out():
    config, keys = 'name = "\\u001b[2J"', {"keys": [{"key": "name", "default": ""}]}

    async def scene():
        async with App().run_test():
            form = ProposeForm(Templates.of(keys, ()), (), config, None, None)
            assert form.config == config, "as it will be sent"
            assert form.rows["name"].value == "·[2J"

    play(scene)


def test_a_number_too_long_to_be_written_is_no_toml():
    assert read(f"seed = 0x{'f' * 5_000}") is None
