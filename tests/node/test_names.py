"""What people call things is found by id, by name and by the beginning of an id, in this order."""

import pytest

from node.names import id_named

NAMES = {"abcd1": "study", "abcd2": "other", "efgh3": "study", "study": "abcd"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("abcd1", "abcd1"),
        ("study", "study"),  # an id goes before a name
        ("other", "abcd2"),
        ("efgh", "efgh3"),
        ("abcd", "study"),  # a name goes before the beginning of an id
        ("efg", None),  # too short
        ("nobody", None),
        ("", None),
    ],
)
def test_by_id_by_name_by_the_beginning_of_an_id(text, found):
    assert id_named(text, NAMES) == found


def test_of_one_name_the_newest_and_of_one_beginning_nobody():
    assert id_named("study", {"a1": "study", "a2": "study"}) == "a2"
    assert id_named("abcd", {"abcd1": "", "abcd2": ""}) is None
