"""The dashboard in a real browser, Debian's Chromium: it is drawn, takes keys, and asks nobody else for anything."""

import os
from pathlib import Path

import pytest
from chromium import BROWSER, page
from test_tui_store import store as store
from tui_stage import play

from tui.web import DashboardServer
from tui.web_command import DASHBOARD

PNG = b"\x89PNG\r\n\x1a\n"
STARTED = "document.body.classList.contains('-first-byte')"
LEFT = "document.body.classList.contains('-closed')"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BROWSER, reason="no Chromium here; apt-get install chromium, or name one in FEDNODE_BROWSER"
    ),
]


def test_the_dashboard_in_a_browser(store, tmp_path):
    """Set FEDNODE_SCREENSHOT to the path of a file to keep the picture."""

    async def scene():
        server = DashboardServer([*DASHBOARD, "--store", str(store)])
        runner = await server.start()
        try:
            async with page(tmp_path / "profile") as browser:
                await browser.goes_to(f"http://127.0.0.1:{server.port}/")
                await browser.until("document.body && document.body.innerText.length")
                assert "not let in" in await browser.says("document.body.innerText")
                await browser.goes_to(server.address)
                await browser.until(STARTED)
                assert await browser.says("location.href") == f"http://127.0.0.1:{server.port}/"
                assert await browser.says("document.cookie") == "", "scripts see no cookie"
                assert len(server.sessions) == 1
                before = await until_drawn(browser)
                await browser.types("3")
                while (after := await browser.picture()) == before:
                    assert not await browser.says(LEFT)
                assert after.startswith(PNG)
                if "FEDNODE_SCREENSHOT" in os.environ:
                    Path(os.environ["FEDNODE_SCREENSHOT"]).write_bytes(await until_drawn(browser))
                await browser.types("q")
                await browser.until(LEFT)
                elsewhere = [address for address in browser.asked if f"//127.0.0.1:{server.port}/" not in address]
                assert elsewhere == []
                assert any(address.startswith("ws:") for address in browser.asked)
        finally:
            await runner.cleanup()

    play(scene)


async def until_drawn(browser):
    """The picture once it is one and stays as it is."""
    last = b""
    while (now := await browser.picture()) != last or len(now) < PICTURE_BYTES_LEAST:
        last = now
    return now


PICTURE_BYTES_LEAST = 20_000  # an empty page has a third of it
