"""`fednode web`: the dashboard in a browser on this machine. textual-serve carries it; door and bounds are ours.

Every page that is open has a dashboard of its own, a process that ends with it. The page and all it needs come from
here, and a policy forbids the browser to ask anybody else.
"""

import asyncio
import json
import logging
import signal
import webbrowser
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import WSMsgType, web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

from tui.web_door import NO_TOKEN, WRONG_HOST, WRONG_ORIGIN, Door, is_our_host, is_our_origin

PAGE_SCRIPT = Path(__file__).with_name("web_page.js")
HERE = "127.0.0.1"
SESSIONS_MAX = 4  # dashboards at once; each is a process of some 80 MB
MESSAGE_BYTES_MAX = 256 * 1024  # a pasted study file fits
CELLS_MAX = 1_000  # of a browser's window, in width and in height
END_WITHIN_S = 5.0  # a dashboard that does not leave by then is ended
HEADERS = {
    # Styles are the terminal's own; blobs and data hold what it draws.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
FULL = f"\x1b[2J\x1b[H {SESSIONS_MAX} dashboards are open already. Close one of them, then open this page again.\r\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Session(AppService):
    """One dashboard's process, which outlives neither its page nor us."""

    def __init__(self, command: Sequence[str], page: web.WebSocketResponse, **parts: Any) -> None:
        super().__init__(
            command[0], write_bytes=page.send_bytes, write_str=page.send_str, close=self._close_page, **parts
        )
        self._words = command
        self._page = page

    async def _close_page(self) -> None:
        await self._page.close()

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        environment = self._build_environment(width, height)
        environment |= {"TEXTUAL_DRIVER": "tui.web_driver:LeavingDriver", "TEXTUAL_FPS": "30"}
        self._process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            start_new_session=True,  # else a Ctrl+C meant for us would reach it first
        )
        self._stdin = self._process.stdin
        return self._process

    async def run(self) -> None:
        """Carry what the dashboard shows; when it has ended, the page is told."""
        await super().run()
        with suppress(ConnectionError):
            await self._page.close()

    async def stop(self) -> None:
        """Ask the dashboard to leave, and see that it does."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(END_WITHIN_S):
                with suppress(ConnectionError):
                    await super().stop()
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class DashboardServer(Server):
    """Serves `command`, the words of a command that shows a dashboard, to browsers that its door lets in."""

    def __init__(self, command: Sequence[str], *, port: int = 0) -> None:
        super().__init__(command[0], host=HERE, port=port, title="fednode", templates_path=Path(__file__).parent)
        self.door = Door()
        self.sessions: set[Session] = set()
        self._words = command
        self.told: Callable[[str], None] = lambda _address: None

    @property
    def address(self) -> str:
        """Where the next browser gets in, once."""
        return f"http://{HERE}:{self.port}/?token={self.door.token}"

    async def start(self) -> web.AppRunner:
        """Listen. Raises OSError where the port is taken. The caller must await the runner's `cleanup()`."""
        logging.getLogger("textual-serve").setLevel(logging.CRITICAL)  # it logs whole tracebacks of broken connections
        logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
        runner = web.AppRunner(await self._make_app(), access_log=None, shutdown_timeout=END_WITHIN_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, HERE, self.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self.port = runner.addresses[0][1]
        return runner

    async def _make_app(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        app = web.Application(middlewares=[guard])
        aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(self.templates_path))
        app.add_routes(
            [
                web.get("/", self.handle_index, allow_head=False),
                web.get("/page.js", self.handle_script),
                web.get("/ws", self.handle_websocket),
                web.get("/download/{key}", self.handle_download, allow_head=False),
                web.static("/static", self.statics_path),
            ]
        )
        app.on_shutdown.append(self.on_shutdown)
        return app

    async def on_shutdown(self, app: web.Application) -> None:
        """All dashboards leave; their pages close with them."""
        await asyncio.gather(*(session.stop() for session in self.sessions))

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answer = self._let_in(request) or await handler(request)
        except web.HTTPException as error:
            answer = web.Response(status=error.status, text=error.text)
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    def _let_in(self, request: web.Request) -> web.Response | None:
        """The answer in place of what was asked for, or None where the door is open."""
        if not is_our_host(request.host):
            return web.Response(status=403, text=WRONG_HOST)
        if request.method == "GET" and request.path == "/" and "token" in request.query:
            cookie = self.door.spend(request.query["token"])
            if cookie is not None:
                return self._welcome(cookie)
        if not self.door.knows(request.cookies):
            return web.Response(status=403, text=NO_TOKEN)
        if request.path == "/" and "token" in request.query:  # an old address, in a browser that is in already
            return _to_page()
        return None

    def _welcome(self, cookie: str) -> web.Response:
        answer = _to_page()
        answer.set_cookie(self.door.cookie_name, cookie, httponly=True, samesite="Strict", path="/")
        self.told(self.address)
        return answer

    @aiohttp_jinja2.template("web_page.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        """What the page is made of."""
        return {
            "application": {"name": self.title},
            "app_websocket_url": f"ws://{request.host}/ws",
            "font_size": min(max(to_int(request.query.get("fontsize", ""), 16), 6), 64),
            "sessions_max": SESSIONS_MAX,
        }

    async def handle_script(self, request: web.Request) -> web.FileResponse:
        """Our own part of what the page does."""
        return web.FileResponse(PAGE_SCRIPT)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """A dashboard for as long as the page is open."""
        if not is_our_origin(request.headers.get("Origin", ""), request.host):
            raise web.HTTPForbidden(text=WRONG_ORIGIN)
        page = web.WebSocketResponse(heartbeat=15, max_msg_size=MESSAGE_BYTES_MAX)
        await page.prepare(request)
        if len(self.sessions) >= SESSIONS_MAX:
            await page.send_bytes(FULL.encode())
            await page.close()
            return page
        session = Session(self._words, page, download_manager=self.download_manager)
        self.sessions.add(session)
        try:
            width, height = (_cells(to_int(request.query.get(side, ""), 0)) for side in ("width", "height"))
            await session.start(width or 80, height or 24)
            await self._process_messages(page, session)
        except ConnectionError:
            pass  # the page has gone
        finally:
            await session.stop()
            self.sessions.discard(session)
        return page

    async def _process_messages(self, websocket: web.WebSocketResponse, app_service: AppService) -> None:
        async for message in websocket:
            if message.type is not WSMsgType.TEXT:
                continue
            match _parsed(message.data):
                case ["stdin", str(typed)]:
                    await app_service.send_bytes(typed.encode("utf-8", "replace"))
                case ["resize", {"width": int(width), "height": int(height)}] if _cells(width) and _cells(height):
                    await app_service.set_terminal_size(_cells(width), _cells(height))
                case ["ping", str(sent)]:
                    await websocket.send_json(["pong", sent])
                case ["blur"]:
                    await app_service.blur()
                case ["focus"]:
                    await app_service.focus()


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _cells(count: int) -> int:
    return min(max(count, 0), CELLS_MAX)


def _to_page() -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})


async def serve(server: DashboardServer, tell: Callable[[str], None], *, open_browser: bool = False) -> None:
    """Serve until SIGINT or SIGTERM. `tell` gets each address that lets a browser in, once the last was used."""
    server.told = tell
    runner = await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        address = server.address
        tell(address)
        if open_browser:
            await asyncio.to_thread(webbrowser.open, address)
        await stop.wait()
    finally:
        await runner.cleanup()
