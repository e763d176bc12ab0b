"""`fednode web` over real sockets: who is let in, who is refused, and that no dashboard outlives its page."""

import asyncio
import json
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from click.testing import CliRunner
from test_tui_store import store as store
from tui_stage import play

from protocol.errors import FednodeError
from tracker.store import Store
from tui import web, web_command
from tui.web import CELLS_MAX, SESSIONS_MAX, DashboardServer
from tui.web_door import BROWSERS_MAX, NO_TOKEN, WRONG_HOST, WRONG_ORIGIN, Door, is_our_host, is_our_origin

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)")
# What a dashboard's process looks like from outside: it says that it is one, then gives back what it is told.
ECHO = """
import os, sys
os.write(1, b"__GANGLION__\\n")
def packet(kind, data):
    os.write(1, kind + len(data).to_bytes(4, "big") + data)
packet(b"D", f"size {os.environ['COLUMNS']}x{os.environ['ROWS']}".encode())
stdin = sys.stdin.buffer
while head := stdin.read(5):
    data = stdin.read(int.from_bytes(head[1:], "big"))
    if b'"quit"' in data or data == b"q":
        packet(b"M", b'{"type": "exit"}')
        break
    packet(b"D", head[:1] + data)
"""
STUBBORN = ECHO.replace("""if b'"quit"' in data or data == b"q":""", "if False:")


@asynccontextmanager
async def serving(program=ECHO):
    server = DashboardServer([sys.executable, "-c", program])
    runner = await server.start()
    try:
        yield server
    finally:
        await runner.cleanup()
    assert children() == []


def children():
    return [child for child in psutil.Process().children() if "__GANGLION__" in " ".join(child.cmdline())]


@asynccontextmanager
async def browser(server, *, let_in=True, **options):
    """A browser, which has the cookie already if it was let in."""
    jar = aiohttp.CookieJar(unsafe=True)  # which is to say, also of addresses without a name
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", cookie_jar=jar, **options) as session:
        if let_in:
            async with session.get(server.address) as page:
                assert page.status == 200
        yield session


def page_of(server, session, query="?width=100&height=30", **options):
    return session.ws_connect(f"/ws{query}", origin=f"http://127.0.0.1:{server.port}", **options)


async def status_of(session, path, **options):
    async with session.get(path, allow_redirects=False, **options) as answer:
        return answer.status, await answer.text(), answer.headers


def test_the_token_works_once_and_leaves_the_address():
    async def scene():
        async with serving() as server, browser(server, let_in=False) as session:
            address, told = server.address, []
            server.told = told.append
            status, _, headers = await status_of(session, address)
            assert (status, headers["Location"]) == (303, "/")
            assert {"HttpOnly", "SameSite=Strict"} <= set(headers["Set-Cookie"].split("; "))
            assert told == [server.address] != [address]
            status, page, headers = await status_of(session, "/")
            assert status == 200
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert "//" not in page.replace(f"ws://127.0.0.1:{server.port}", ""), "all that the page needs is ours"
            assert (await status_of(session, address))[0] == 303, "an old address does no harm to who is in"
            async with browser(server, let_in=False) as other:
                assert (await status_of(other, address))[:2] == (403, NO_TOKEN)

    play(scene)


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=x", "/ws", "/static/js/textual.js", "/download/x", "/none"])
def test_without_a_cookie_nothing_is_there(path):
    async def scene():
        async with serving() as server, browser(server, let_in=False) as session:
            assert (await status_of(session, path))[:2] == (403, NO_TOKEN)
            session.cookie_jar.update_cookies({server.door.cookie_name: "wrong"})
            assert (await status_of(session, path))[:2] == (403, NO_TOKEN)

    play(scene)


def test_a_token_is_not_spent_by_who_only_looks_at_the_link():
    async def scene():
        async with serving() as server, browser(server, let_in=False) as session:
            address = server.address
            async with session.head(address) as answer:
                assert answer.status == 403
            assert server.address == address

    play(scene)


def test_only_our_names_and_our_page_are_answered():
    async def scene():
        async with serving() as server, browser(server) as session:
            for host in (
                "evil.example",
                f"evil.example:{server.port}",
                "127.0.0.1.evil.example",
                "127.0.0.1@evil:1",
                "",
            ):
                assert (await status_of(session, "/", headers={"Host": host}))[:2] == (403, WRONG_HOST)
            assert (await status_of(session, "/", headers={"Host": "localhost:9000"}))[0] == 200, "a forwarded port"
            for origin in (
                None,
                "null",
                "http://evil.example",
                f"https://127.0.0.1:{server.port}",
                "http://127.0.0.1:1",
            ):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect("/ws", origin=origin)
                assert refused.value.status == 403
            assert (await status_of(session, "/ws"))[:2] == (403, WRONG_ORIGIN)
            assert (await status_of(session, "/static/"))[0] == 403, "folders are not listed"
            assert (await status_of(session, "/static/%2e%2e/server.py"))[0] == 404
            assert (await status_of(session, "/download/none"))[0] == 404

    play(scene)


def test_a_page_has_a_dashboard_that_ends_with_it():
    async def scene():
        async with serving() as server, browser(server) as session:
            async with page_of(server, session, "?width=100&height=99999") as page:
                assert (await page.receive_bytes()) == f"size 100x{CELLS_MAX}".encode()
                await page.send_json(["stdin", "hä"])
                assert await page.receive_bytes() == b"D" + "hä".encode()
                await page.send_json(["resize", {"width": 10**9, "height": 24}])
                assert json.loads((await page.receive_bytes())[1:])["width"] == CELLS_MAX
                await page.send_json(["ping", "7"])
                assert await page.receive_json() == ["pong", "7"]
                assert len(children()) == 1
            while server.sessions:
                assert (await status_of(session, "/"))[0] == 200
            assert children() == []

    play(scene)


MALFORMED = [
    "",
    "{",
    "[]",
    "{}",
    "null",
    "7",
    '["stdin"]',
    '["stdin", 7]',
    '["stdin", null]',
    '["resize", {}]',
    "[[[]]]",
]
MALFORMED += [
    '["resize", {"width": -1, "height": 0}]',
    '["resize", {"width": "a", "height": 5}]',
    "[" * 50_000,
    '["x"]',
]


def test_malformed_messages_are_passed_over():
    async def scene():
        async with (
            serving() as server,
            browser(server) as session,
            page_of(server, session, "?width=&height=x") as page,
        ):
            assert (await page.receive_bytes()) == b"size 80x24"
            for message in MALFORMED:
                await page.send_str(message)
            await page.send_bytes(b"\xff\x00")
            await page.send_json(["stdin", "\ud800 still here"])
            assert b"still here" in await page.receive_bytes()

    play(scene)


def test_a_huge_message_costs_the_page_alone():
    async def scene():
        async with (
            serving() as server,
            browser(server) as session,
            page_of(server, session) as page,
            page_of(server, session) as other,
        ):
            await page.receive_bytes()
            await other.receive_bytes()
            await page.send_str("x" * (web.MESSAGE_BYTES_MAX + 1))
            assert (await page.receive()).type is aiohttp.WSMsgType.CLOSE
            await other.send_json(["stdin", "a"])
            assert await other.receive_bytes() == b"Da"

    play(scene)


def test_a_dashboard_that_is_left_closes_its_page():
    async def scene():
        async with serving() as server, browser(server) as session, page_of(server, session) as page:
            await page.receive_bytes()
            await page.send_json(["stdin", "q"])
            assert (await page.receive()).type is aiohttp.WSMsgType.CLOSE

    play(scene)


def test_a_dashboard_that_cannot_start_closes_its_page(capsys):
    async def scene():
        broken = "raise SystemExit('no store')"
        async with serving(broken) as server, browser(server) as session, page_of(server, session) as page:
            assert (await page.receive()).type is aiohttp.WSMsgType.CLOSE

    play(scene)
    assert "no store" in capsys.readouterr().out


def test_so_many_dashboards_at_once_and_no_more():
    async def scene():
        async with serving() as server, browser(server) as session:
            pages = [await page_of(server, session) for _ in range(SESSIONS_MAX)]
            for page in pages:
                await page.receive_bytes()
            async with page_of(server, session) as page:
                assert b"are open already" in await page.receive_bytes()
                assert (await page.receive()).type is aiohttp.WSMsgType.CLOSE
            assert len(children()) == SESSIONS_MAX

    play(scene)


def test_one_that_does_not_leave_is_ended(monkeypatch):
    monkeypatch.setattr(web, "END_WITHIN_S", 0.2)

    async def scene():
        async with serving(STUBBORN) as server, browser(server) as session, page_of(server, session) as page:
            await page.receive_bytes()
            assert len(children()) == 1

    play(scene)


@asynccontextmanager
async def command(store):
    """`fednode web` as one calls it, with a page that shows a dashboard: its process, and the dashboard's."""
    words = (sys.executable, "-m", "node", "web", "--store", str(store))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        port, token = ADDRESS.search((await process.stdout.readline()).decode()).groups()
        jar = aiohttp.CookieJar(unsafe=True)
        base = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(base, cookie_jar=jar) as session:
            async with session.get(f"/?token={token}") as page:
                assert page.status == 200
            async with session.ws_connect("/ws?width=80&height=24", origin=base, max_msg_size=0) as page:
                shown = b""
                while b"digits-mlp" not in shown:
                    shown += await page.receive_bytes()
                (dashboard,) = psutil.Process(process.pid).children()
                yield process, dashboard
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_ctrl_c_ends_it_and_every_dashboard(store):
    async def scene():
        async with command(store) as (process, dashboard):
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
            assert not dashboard.is_running()

    play(scene)


def test_killed_it_leaves_no_dashboard_behind(store):
    async def scene():
        async with command(store) as (process, dashboard):
            process.kill()
            await asyncio.to_thread(dashboard.wait, 20)

    play(scene)


def test_a_store_in_use_and_a_port_in_use_are_refused_at_once(store):
    held = Store(store)
    refused = CliRunner().invoke(web_command.web, ["--store", str(store)])
    assert isinstance(refused.exception, FednodeError)
    held.close()

    async def scene():
        async with serving() as server:
            words = ["--port", str(server.port)]
            taken = await asyncio.to_thread(CliRunner().invoke, web_command.web, words)
            assert taken.exit_code == 1
            assert "Give another --port" in taken.output

    play(scene)


def test_only_so_many_browsers_are_remembered():
    door = Door()
    cookies = [door.spend(door.token) for _ in range(BROWSERS_MAX + 1)]
    assert not door.knows({door.cookie_name: cookies[0]})
    assert all(door.knows({door.cookie_name: cookie}) for cookie in cookies[1:])
    assert not door.knows({})
    assert not door.knows({"other": cookies[1]})
    assert door.spend("ümlaut") is None
    assert door.spend("\udcff") is None
    assert not door.knows({door.cookie_name: "\udcff"}), "a header may hold any bytes"


def test_names_of_this_machine():
    for host in ("127.0.0.1", "127.0.0.1:80", "localhost:8000", "[::1]:8000", "[::1]"):
        assert is_our_host(host), host
    for host in (
        "",
        ":80",
        "127.0.0.2",
        "127.0.0.1:x",
        "127.0.0.1:80:80",
        "localhost.evil",
        "a@localhost",
        "localhost/x",
        "[bad",
        "[::1",
    ):
        assert not is_our_host(host), host
    assert is_our_origin("http://localhost:8000", "localhost:8000")
    assert not is_our_origin("http://localhost:8001", "localhost:8000")
    assert not is_our_origin("", "localhost:8000")
