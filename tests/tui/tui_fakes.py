"""A client that replays what a node would say, and remembers what it was asked."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

EMPTY = {"metrics": {"metrics": []}, "rounds": {"rounds": []}, "logs": {"logs": [], "next": 0}}
RECORDED = Path(__file__).with_name("recorded.ndjson")


def recorded():
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def rounds_answer(rounds=6):
    """What /v1/runs/{run}/rounds says of the recorded run."""
    ids = [peer["node_id"] for peer in recorded()[0]["peers"]]
    refused = [{"node_id": ids[4], "reason": "norm 41.2 is over the limit of 10"}]
    return {
        "rounds": [
            {
                "round": at,
                "term": 1 if at < 5 else 2,
                "aggregator": ids[2 if at < 5 else 3],
                "checkpoint": "c",
                "model": "m",
            }
            | {"committed_at": f"2026-11-21T14:00:{8 + 2 * at:02d}Z", "updates_used": 4 if at in (3, 5, 6) else 5}
            | {"updates_refused": refused if at == 3 else [], "bytes": 9_920_000, "seconds": 1.9 if at != 5 else 6.4}
            for at in range(1, rounds + 1)
        ]
    }


class FakeClient:
    """Says the given events to everybody who listens, as fast as they are taken. `go_away` and `come_back` at will."""

    def __init__(self, events=(), answers=None):
        self.events_told = list(events)
        self.answers = answers or {}
        self.asked = []
        self.bodies = []
        self.listening = 0
        self.told = 0
        self._here = True
        self._news = asyncio.Condition()

    async def say(self, *events):
        async with self._news:
            self.events_told += events
            self._news.notify_all()

    async def go_away(self):
        async with self._news:
            self._here = False
            self._news.notify_all()

    def come_back(self, events):
        self.events_told = list(events)
        self._here = True

    async def events(self):
        if not self._here:
            raise ConnectionRefusedError("nobody listens at api.sock")
        self.listening += 1
        self.told = 0
        while True:
            for event in self.events_told[self.told :]:
                yield event
                self.told += 1
            async with self._news:
                while self.told == len(self.events_told) and self._here:
                    await self._news.wait()
            if not self._here:
                raise ConnectionResetError("the stream broke off")

    @asynccontextmanager
    async def connect(self):
        yield self

    async def ask(self, *parts, **filters):
        """Answers are given by the last part of the path."""
        return self._answer(parts[-1], EMPTY.get(parts[-1], {}), *parts[:-1][-1:])

    async def all_logs(self, run, **filters):
        """Tells what is answered as `all`, and then no more comes."""
        for event in self._answer("all", [], run):
            yield event

    async def tell(self, method, *parts, body):
        self.bodies.append((method, parts, body))
        return self._answer(parts[-1], {}, *parts[:-1][-1:])

    def _answer(self, name, default, *arguments):
        self.asked.append((name, *arguments))
        answer = self.answers.get(name, default)
        if isinstance(answer, Exception):
            raise answer
        return answer
