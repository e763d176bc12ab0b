"""Long answers of the API: encoded some rows at a time, and ended as their reader asked."""

import json
import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from memory_service import MemoryService, serving

from node.api.http.answers import answer
from node.api.http.json import PIECE_CHARACTERS, ROWS_AT_ONCE_MAX, json_bytes, json_pieces
from node.api.http.streams import JsonStream, Streamed

CLOSING_DEADLINE_S = 10  # for a connection that is to be closed at once


@pytest.fixture
def service(tmp_path: Path) -> Iterator[MemoryService]:
    with serving(tmp_path / "home") as service:
        yield service


def rows(count: int) -> list[dict[str, Any]]:
    return [{"round": number, "value": math.nan if number == 5 else 0.5, "key": "é"} for number in range(count)]


@pytest.mark.parametrize(
    "value",
    [
        {"metrics": rows(10_000)},
        {"columns": ["a"], "rows": [("x",)] * 3000, "truncated": False},
        {"before": 1, "logs": rows(100), "empty": [], "next": 7},
        {"one": [1]},
        {"odd": ["\ud800"] * 50},
        {},
    ],
)
def test_pieces_are_what_the_whole_would_be(value):
    assert b"".join(json_pieces(value)) == json_bytes(value)


def test_pieces_stay_small_whatever_the_rows_are():
    narrow = list(json_pieces({"metrics": rows(100_000)}))
    assert max(piece.count(b"round") for piece in narrow) == ROWS_AT_ONCE_MAX
    wide = list(json_pieces({"rows": ["x" * 100_000] * 500}))
    assert max(map(len, wide[2:])) <= PIECE_CHARACTERS  # the first is sent before it is known


@pytest.mark.parametrize("is_finite", [True, False])
def test_everybody_has_their_turn_while_a_long_answer_is_encoded(is_finite):
    value = {"metrics": [{"value": 0.5 if is_finite else math.nan} for _ in range(50_000)]}
    turns = 0
    sent: list[bytes] = []

    async def send(message: Any) -> None:  # that never waits
        sent.append(message.get("body", b""))

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await answer(value)({"type": "http"}, trio.sleep_forever, send)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert turns >= len(value["metrics"]) / ROWS_AT_ONCE_MAX
    assert json.loads(b"".join(sent)) == {"metrics": [{"value": 0.5 if is_finite else None}] * 50_000}


def test_short_answers_and_errors_are_sent_at_once():
    assert not isinstance(answer({"runs": rows(3)}), Streamed)
    assert not isinstance(answer({"error": rows(3000)}, 400), Streamed)
    assert not isinstance(answer(rows(3000)), Streamed)
    assert isinstance(answer({"runs": rows(3000)}), JsonStream)


def whole_answer(home: Path, request: str) -> bytes:
    """All that comes until the node closes the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CLOSING_DEADLINE_S)
        connection.connect(str(home / "api.sock"))
        connection.sendall(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        got = b""
        while more := connection.recv(65_536):
            got += more
    return got


@pytest.mark.parametrize(
    "request_line", ["GET /v1/runs/study/model HTTP/1.0", "GET /v1/runs/study/model HTTP/1.1\nConnection: close"]
)
def test_a_stream_ends_with_its_connection_where_that_is_asked(service: MemoryService, request_line: str) -> None:
    service.model_bytes = b"abc"
    assert whole_answer(service.home, f"{request_line}\nHost: node").endswith(b"abc")
