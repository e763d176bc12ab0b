"""Every numbered sentence of docs/protocol.md is cited by a test, and every cited one is there."""

import inspect
import re
from pathlib import Path

from protocol.group import rules as group_rules
from protocol.group import rulings as group_rulings

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "protocol.md").read_text()


def test_sentences_and_tests_belong_together():
    sentences = set(re.findall(r"^(?:\*\*)?([0-9]+\.[0-9]+)(?:\*\*)? ", TEXT, re.MULTILINE))
    cited = {
        number for file in TESTS.rglob("test_*.py") for number in re.findall(r"§([0-9]+\.[0-9]+)", file.read_text())
    }
    assert len(sentences) > 90
    assert {number.split(".")[0] for number in sentences} == {str(number) for number in range(1, 15)}
    assert sentences - cited == set()
    assert cited - sentences == set()


def test_the_rules_stand_in_the_document_as_in_the_code():
    """Name by name and word by word: the docstring's first sentence is the document's."""
    flat = " ".join(TEXT.split())
    rules = {
        name: rule
        for name, rule in inspect.getmembers(group_rules, inspect.isfunction)
        if rule.__module__ == group_rules.__name__ and not name.startswith("_")
    }
    for rule in (
        group_rulings.a_ruling_voids_what_it_takes_away,
        group_rulings.a_removal_voids_readmission,
        group_rulings.a_start_beside_a_removal_needs_others,
        group_rulings.a_revocation_voids_what_its_node_did,
        group_rulings.a_revocation_voids_a_binding,
        group_rulings.the_senior_stays,
    ):
        rules[rule.__name__] = rule
    assert len(rules) > 15
    for name, rule in rules.items():
        assert f"`{name}`: {' '.join((rule.__doc__ or '').split())}" in flat
