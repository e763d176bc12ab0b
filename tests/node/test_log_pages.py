"""Paging and searching in the log over the local API, down to the record's own queries."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_service import log_json, serving

from fednode import Client, RequestRefused
from node.api.service.service import LogPage, LogsQuery
from tracker.store import Store
from tracker.tables.rows import LogRow

START = 1_790_000_000.0


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Any]:
    """Asks the record like the node does, and gives LogPage."""
    store = Store(tmp_path / "store.duckdb")
    reader = store.reader()

    def ask(**wanted: Any) -> LogPage:
        query = LogsQuery(**wanted)
        given = {key: getattr(query, key) for key in ("node", "level", "text", "limit", "before")}
        return LogPage.of(reader.query("logs_tail", given), query)

    ask.store = store  # type: ignore[attr-defined]
    yield ask
    reader.close()
    store.close()


def said(page: LogPage) -> list[str]:
    return [line["message"] for line in page.lines]


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_pages_back_through_several_nodes_lines_skip_and_repeat_nothing(record: Any, limit: int) -> None:
    """Two nodes number their lines apart, and two lines of every second have one and the same time."""
    times = [(at // 2, node, at) for at in range(12) for node in ("n1", "n,2")]
    record.store.write(
        [LogRow(node, "", "INFO", "l", f"{at} {node}", START + second, at) for second, node, at in times]
    )
    pages = [record(limit=limit)]
    while pages[-1].previous is not None:
        pages.append(record(limit=limit, before=pages[-1].previous))
    told = [message for page in reversed(pages) for message in said(page)]
    assert told == [f"{at} {node}" for second, node, at in sorted(times)]
    assert pages[0].next == 11


def test_a_text_is_found_literally_and_in_any_capitals(record: Any) -> None:
    words = ("Loss is NaN", "100% done", "100x done", "a_b", "axb", "back\\slash", "Straße", "it's")
    record.store.write([LogRow("n", "", "INFO", "task.Log", word, START + at, at) for at, word in enumerate(words)])
    for text, found in {
        "nan": ["Loss is NaN"],
        "0%": ["100% done"],
        "a_b": ["a_b"],
        "\\": ["back\\slash"],
        "STRASSE": [],
        "STRAßE": ["Straße"],
        "'s": ["it's"],
        "task.LOG": list(words),
        "nothing": [],
    }.items():
        assert said(record(text=text)) == found, text
    page = record(text="done", limit=1)
    assert said(page) == ["100x done"]
    assert said(record(text="done", limit=1, before=page.previous)) == ["100% done"]


def test_what_is_asked_comes_to_the_service_and_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        client = Client(tmp_path)
        service.log_lines = [log_json(3, "third", "")]
        page = client.logs(limit=1, text="a%b")
        assert service.calls[-1] == ("logs", None, LogsQuery(text="a%b", limit=1))
        assert page["previous"].startswith("2026-01-01T00:00:00.000000,3,12D3")
        client.logs("study", before=page["previous"], limit=2)
        assert service.calls[-1] == ("logs", "study", LogsQuery(before=page["previous"], limit=2))
        for wrong in (
            {"before": "yesterday"},
            {"before": "2026-13-01T00:00:00,1,n"},
            {"before": "2026-01-01T00:00:00,-1,n"},
            {"before": "2026-01-01T00:00:00,1"},
            {"before": "2026-01-01T00:00:00+01:00,1,n"},
            {"before": page["previous"], "after": 3},
            {"text": ""},
            {"text": "x" * 201},
        ):
            with pytest.raises(RequestRefused) as refused:
                client.logs(**wrong)
            assert refused.value.code == "malformed", wrong
