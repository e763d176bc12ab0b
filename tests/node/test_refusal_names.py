"""Why an update is refused has a name, and docs/faults.md has them all in one table."""

import ast
import re
from pathlib import Path

from protocol.run.checkpoint import COMPARED
from protocol.run.gathering import OFFER_REFUSALS, UNLISTED_REFUSALS
from protocol.run.refusals import TOLD_AT_ONCE

ROOT = Path(__file__).resolve().parents[2]
DECIDE = (
    "protocol/run/gathering.py",
    "node/run/data.py",
    "node/run/checking.py",
    *(f"aggregation/{name}.py" for name in ("updates", "combine")),
)
DECIDE = (*DECIDE, "aggregation/rules/screening.py", "aggregation/rules/sums.py", "protocol/run/checkpoint.py")
NAME = re.compile(r"[a-z]+(-[a-z]+)+")
NO_REFUSALS = {"blob-too-large"} | {
    f"run-{note}" for note in ("ready", "declined", "offer", "report", "ack", "receipt")
}
NO_REFUSALS |= {"run-issue", "run-checkpoint", "two-checkpoints"}


def table() -> dict[str, tuple[str, str, str]]:
    """Of each name where it is decided, where it stands, and whether its node hears it at once."""
    text = (ROOT / "docs" / "faults.md").read_text().partition("### Why an update is refused")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip(" `"): (row[2], row[3], row[4].strip()) for row in rows}


def named_in(file: str) -> set[str]:
    """The names that a file writes out: constants of their form, and what stands in parentheses behind an error."""
    texts = [
        node.value
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    behind = {match for text in texts for match in re.findall(r"\(([a-z]+(?:-[a-z]+)+)\)$", text)}
    return ({text for text in texts if NAME.fullmatch(text)} | behind) - NO_REFUSALS


def test_every_name_is_in_the_table_with_its_place() -> None:
    told = table()
    found = {file: named_in(file) for file in DECIDE}
    assert set().union(*found.values()) == set(told)
    for name, (places, *_) in told.items():
        files = re.findall(r"`([a-z_/]+\.py)`", places)
        assert files, name
        for file in files:
            text = (ROOT / file).read_text()
            assert name in text or name.upper().replace("-", "_") in text, (name, file)


def test_the_table_says_what_stands_in_the_checkpoint() -> None:
    stands = {name for name, (_, where, _) in table().items() if where == "the checkpoint"}
    assert stands >= OFFER_REFUSALS - UNLISTED_REFUSALS
    assert not stands & UNLISTED_REFUSALS


def test_the_table_says_what_a_node_hears_at_once() -> None:
    """§8.30."""
    hears = {name for name, (*_, when) in table().items() if when == "at once"}
    assert hears == TOLD_AT_ONCE
    later = {name for name, (*_, when) in table().items() if when == "from the checkpoint"}
    assert later >= COMPARED
