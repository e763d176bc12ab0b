"""Files of events with their times: `fednode tui --record FILE` writes one while one watches, `--replay FILE` plays it.

Gzipped NDJSON. The first line says what it is; then come, in the order of their times in seconds,

    {"at": 1.25, "event": {..}}                            an event of docs/api.md
    {"at": 1.31, "ask": [[part ..], {filter: value}], "answer": {..}}      what a view was told when it asked
"""

import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from fednode import ClientError
from tui.facts.asks import Ask, asking
from tui.facts.fields import Json, measure, safe, text
from tui.feeds.feed import Feed, FeedError
from tui.feeds.tape import Moment, Tape

SUFFIX = ".ndjson.gz"
FORMAT = "fednode recording"
VERSION = 1
BYTES_MAX = 256 * 2**20  # of text: hours of a busy group; what is unpacked is bounded by it, whatever the file claims
LINE_BYTES_MAX = 32 * 2**20  # a page of metrics is some 4 MB
# Of lists, objects and what is in them: unpacked, each takes up to 150 bytes, however short it is written.
VALUES_MAX = 6_000_000
LENGTH_S_MAX = 366 * 24 * 3600.0  # a year


class RecordingError(ClientError):
    """A file that cannot be played or written."""

    code = "bad-recording"

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy=remedy)


class RecordingFeed:
    """Another feed, whose events and answers are written into `path` as they come. `close` makes the file whole.

    Raises:
        RecordingError: the file exists already, or cannot be made.
    """

    def __init__(self, feed: Feed, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._clock = clock
        self._began = clock()
        self._bytes = self._values = 0
        self._notes: list[str] = []
        try:
            self._file: gzip.GzipFile | None = gzip.GzipFile(path, "xb", compresslevel=6)
        except FileExistsError as error:
            raise RecordingError(f"{path} exists already", "give another name, or remove it") from error
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror}", "give another place") from error
        self._write({"format": FORMAT, "version": VERSION, "title": path.name.removesuffix(SUFFIX)})

    @property
    def title(self) -> str:
        return self._feed.title

    async def events(self) -> AsyncIterator[Json]:
        async for event in self._feed.events():
            if event.get("type") != "alive":
                self._write({"at": self._now(), "event": event})
            yield event
            while self._notes:
                yield {"type": "note", "text": self._notes.pop()}

    async def ask(self, ask: Ask) -> Json:
        answer = await self._feed.ask(ask)
        self._write({"at": self._now(), "ask": [ask.parts, dict(ask.filters)], "answer": answer})
        return answer

    def all_logs(self, run_id: str, **filters: Any) -> AsyncIterator[Json]:
        """The other feed's; not recorded, since a replay tells of what events have told."""
        return self._feed.all_logs(run_id, **filters)

    async def tell(self, method: str, *parts: str, **body: Any) -> Json:
        return await self._feed.tell(method, *parts, **body)

    def close(self) -> None:
        """End the file. Nothing more is recorded."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _now(self) -> float:
        return round(self._clock() - self._began, 3)

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        written = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._bytes += len(written)
        self._values += _values_in(written)
        try:
            if self._bytes > BYTES_MAX or self._values > VALUES_MAX:
                raise OSError("it is as large as can be played")
            self._file.write(written)
        except OSError as error:
            self._notes.append(f"the recording has ended: {error}")
            self.close()


class Recorded:
    """The answers in a recording."""

    def __init__(self) -> None:
        self.began = 0.0  # when the first event came: where the tape begins
        self._answers: dict[Ask, list[tuple[float, Json]]] = {}

    def add(self, at: float, ask: Ask, answer: Json) -> None:
        self._answers.setdefault(ask, []).append((at, answer))

    async def ask(self, ask: Ask, until_s: float) -> Json:
        """The newest answer to this question by then. The first stands for what was asked later only."""
        known = self._answers.get(ask)
        if known is None:
            if ask.parts[-1:] in (("metrics",), ("logs",)):
                return {}  # the events have told them
            raise FeedError("nobody looked at this while the recording was made")
        return next((answer for at, answer in reversed(known) if at <= until_s + self.began), {})


def read_recording(path: Path) -> tuple[Tape, Recorded]:
    """What a recording holds.

    Raises:
        RecordingError: it is no recording, is damaged, or larger than what is taken.
    """
    moments: list[Moment] = []
    answers = Recorded()
    title, last = "", 0.0
    for number, line in enumerate(_lines(path), 1):
        if number == 1:
            title = _checked_head(path, line)
            continue
        at = measure(line, "at")
        if at is None or not last <= at <= LENGTH_S_MAX:
            raise _damaged(path, number, "its time is not after the one before")
        last = at
        match line:
            case {"event": {"type": str()} as event}:
                moments.append(Moment(last, event))
            case {"ask": [list(parts), dict(filters)], "answer": dict(answer)}:
                answers.add(last, _asking(path, number, parts, filters), answer)
            case _:
                raise _damaged(path, number, "it is neither an event nor an answer")
    if not moments:
        raise RecordingError(f"{path} holds no events", "record again, for longer")
    answers.began = moments[0].at
    shifted = [Moment(moment.at - answers.began, moment.event) for moment in moments]
    return Tape(title, shifted, shifted[-1].at), answers


def _asking(path: Path, number: int, parts: list[Any], filters: dict[str, Any]) -> Ask:
    plain = all(isinstance(value, str | int | float | None) for value in filters.values())
    if not plain or not parts or not all(isinstance(part, str) for part in parts):
        raise _damaged(path, number, "its question is none")
    return asking(*parts, **filters)


def _checked_head(path: Path, line: dict[str, Any]) -> str:
    if line.get("format") != FORMAT:
        raise RecordingError(f"{path} is no recording of a dashboard", "fednode tui --record FILE makes one")
    if line.get("version") != VERSION:
        raise RecordingError(f"{path} was made by another version", "play it with the fednode that recorded it")
    return text(line, "title") or safe(path.name)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    total = values = 0
    try:
        with gzip.open(path, "rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                total += len(line)
                values += _values_in(line)
                if len(line) > LINE_BYTES_MAX or total > BYTES_MAX or values > VALUES_MAX:
                    most = f"at most {BYTES_MAX // 2**20} MB and {VALUES_MAX:,} values"
                    raise RecordingError(f"{path} is larger than what is played", most)
                yield _object(path, number, line)
    except gzip.BadGzipFile as error:
        raise RecordingError(f"{path} is no recording of a dashboard", "fednode tui --record FILE makes one") from error
    except EOFError:
        return  # the recorder was ended half-way: what came before can be played
    except (OSError, zlib.error) as error:
        raise RecordingError(f"{path} cannot be read: {error}", "it may be damaged; record again") from error


def _values_in(line: bytes) -> int:
    """How many values there are in a line, told without unpacking it: a few too many where texts have commas."""
    return sum(map(line.count, (b"[", b"{", b",")))


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, "it is no JSON") from error
    if not isinstance(read, dict):
        raise _damaged(path, number, "it is no object")
    return read


def _damaged(path: Path, number: int, why: str) -> RecordingError:
    return RecordingError(f"{path} is damaged: line {number}, {why}", "record again")
