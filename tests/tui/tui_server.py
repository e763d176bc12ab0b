"""A stand-in for a node's local API: HTTP on a Unix socket, no more of it than the dashboard asks for.

By hand: `python tests/tui/tui_server.py HOME [SECONDS_BETWEEN_LINES]` plays the recording to whoever connects.
"""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tui_fakes import recorded, rounds_answer

HEAD = "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}\r\n"


class Server:
    """Serves `home`/api.sock. `tell` is an async generator of events, begun anew for everybody who listens."""

    def __init__(self, home, tell, answers=None):
        self.path = Path(home) / "api.sock"
        self.tell = tell
        self.answers = {"metrics": {"metrics": []}, "logs": {"logs": [], "next": 0}, "rounds": rounds_answer()}
        self.answers |= answers or {}
        self.asked = []
        self._talks = set()

    async def __aenter__(self):
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader, writer):
        talk = asyncio.current_task()
        self._talks.add(talk)
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                body = json.loads(await reader.readexactly(length) or b"null")
                await self._answer(writer, method, urlsplit(target).path, body)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _answer(self, writer, method, path, body):
        self.asked.append((method, path, body))
        if path == "/v1/events":
            writer.write(HEAD.format(status=200, more="Transfer-Encoding: chunked\r\n").encode())
            async for event in self.tell():
                line = json.dumps(event).encode() + b"\n"
                writer.write(b"%x\r\n%s\r\n" % (len(line), line))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            return
        answer = self.answers.get(path.rsplit("/", 1)[-1], {})
        status = answer.get("error", {}).get("status", 200)
        text = json.dumps(answer).encode()
        writer.write(HEAD.format(status=status, more=f"Content-Length: {len(text)}\r\n").encode() + text)
        await writer.drain()


async def _play(home, pause_s):
    async def tell():
        while True:
            for event in recorded():
                yield event
                await asyncio.sleep(0 if event["type"] == "transfer" else pause_s)

    Path(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    async with Server(home, tell):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_play(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.3))
