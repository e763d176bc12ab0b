"""Every numbered sentence of docs/protocol.md on membership is cited by a test, and every cited one is there."""

import inspect
import re
from pathlib import Path

from protocol import group_rules

TESTS = Path(__file__).parent
TEXT = (TESTS.parents[1] / "docs" / "protocol.md").read_text()
MEMBERSHIP = re.compile(r"[1-5]\.[0-9]+")


def numbers(text: str, pattern: str) -> set[str]:
    return {number for number in re.findall(pattern, text) if MEMBERSHIP.fullmatch(number)}


def test_sentences_and_tests_belong_together():
    sentences = numbers(TEXT, r"\*\*([0-9]+\.[0-9]+)\*\*")
    cited = {number for file in TESTS.glob("test_*.py") for number in numbers(file.read_text(), r"§([0-9]+\.[0-9]+)")}
    assert len(sentences) > 60
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
    assert len(rules) > 15
    for name, rule in rules.items():
        assert f"`{name}`: {' '.join((rule.__doc__ or '').split())}" in flat
