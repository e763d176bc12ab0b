"""A headless Chromium spoken to by its own protocol (DevTools), as far as a test needs it."""

import asyncio
import base64
import os
import re
import shutil
from contextlib import asynccontextmanager

import aiohttp

BROWSER = os.environ.get("FEDNODE_BROWSER") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
LISTENS = re.compile(r"DevTools listening on (ws://\S+)")


class Page:
    def __init__(self, socket):
        self._socket = socket
        self._count = 0
        self.asked = []  # every address that the page asked for

    async def call(self, method, **parameters):
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json()
            if told.get("method") in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                self.asked.append(told["params"].get("url") or told["params"]["request"]["url"])
            if told.get("id") == self._count:
                assert "error" not in told, told
                return told["result"]

    async def goes_to(self, address):
        await self.call("Page.enable")
        await self.call("Network.enable")
        await self.call("Page.navigate", url=address)

    async def says(self, script):
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, script):
        while not await self.says(script):
            pass  # each question is a round through the browser

    async def types(self, text):
        for character in text:
            await self.call("Input.dispatchKeyEvent", type="keyDown", text=character)

    async def picture(self):
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def page(folder, width=1200, height=800):
    browser = await asyncio.create_subprocess_exec(
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"),
        *("--disable-background-networking", "--enable-unsafe-swiftshader", f"--user-data-dir={folder}"),
        *(f"--window-size={width},{height}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        while not (found := LISTENS.search((await browser.stderr.readline()).decode())):
            assert not browser.stderr.at_eof()
        port = re.search(r":(\d+)/", found[1])[1]
        drain = asyncio.create_task(browser.stderr.read())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                where = next(each for each in await answer.json() if each["type"] == "page")["webSocketDebuggerUrl"]
            async with session.ws_connect(where, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        browser.kill()
        await browser.wait()
    await drain
