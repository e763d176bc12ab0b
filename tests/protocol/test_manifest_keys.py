"""What people read about the keys is made from what is checked: template, table, nearest names."""

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.manifest.aliases import ALIASES, FEDML_SECTIONS, LEFT_OUT
from protocol.manifest.keys import KEYS, SECTIONS, TOP_LEVEL, nearest_key, template, toml_value
from protocol.manifest.read import read_configuration


def test_the_template_is_valid_and_says_what_the_defaults_say() -> None:
    reading = read_configuration(template(), source="study.toml")
    assert reading.taken_as == ()
    smallest = read_configuration('[task]\nname = "digits"\n[data]\nname = "digits"', source="study.toml")
    assert reading.configuration == smallest.configuration


def test_every_key_of_the_template_can_be_set() -> None:
    """Taking the # from all keys gives a valid file too, but for the two ways to name a task, and for what belongs to
    a rule, a way of clipping or a server optimizer that is not the default."""
    whole = re.sub(r"(?m)^#(?! )", "", template())
    whole = re.sub(r"(?m)^(path|clip_norm|clip_radius|server_learning_rate) = .*$", "", whole)
    reading = read_configuration(whole)
    assert reading.configuration.aggregation.norm_max is not None


def test_the_template_names_every_key_once() -> None:
    document = tomllib.loads(re.sub(r"(?m)^#(?! )", "", template()))
    names = {key for key in document if key not in SECTIONS}
    names |= {f"{section}.{key}" for section in SECTIONS for key in document[section]}
    assert names == set(KEYS)


def test_every_key_has_a_meaning_and_says_what_is_allowed() -> None:
    for key in KEYS.values():
        assert key.meaning, key.name
        assert key.allowed, key.name


def test_aliases_lead_to_keys_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(KEYS)
    assert not set(ALIASES) & set(TOP_LEVEL)
    assert not set(LEFT_OUT) & (set(ALIASES) | set(TOP_LEVEL))
    assert not FEDML_SECTIONS & set(SECTIONS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("training.learn_rate", "training.learning_rate"),
        ("training.codec", "aggregation.codec"),
        ("trainig.epochs", "training.epochs"),
        ("seeed", "seed"),
        ("round.dedline_s", "round.deadline_s"),
        ("xyzzy", ""),
    ],
)
def test_nearest_key(written: str, meant: str) -> None:
    assert nearest_key(written) == meant


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
)
def test_toml_values_come_back(value: object) -> None:
    assert tomllib.loads(f"a = {toml_value(value)}")["a"] == value
