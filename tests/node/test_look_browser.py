"""A run's page in a real browser, Debian's Chromium: it is drawn, light and dark, and asks nobody for anything."""

import json
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from look_store import RUNS, make_store

from node.cli import cli
from node.exports.plots_svg import DARK, LIGHT

BROWSER = os.environ.get("FEDNODE_BROWSER") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
DEADLINE_S = 120
NOBODYS = "not an origin"  # whose requests the browser makes for itself

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not BROWSER, reason="no Chromium here; apt-get install chromium, or name one in FEDNODE_BROWSER"
    ),
]


def opened(page: Path, *options: str, width: int = 1000) -> tuple[np.ndarray, set[str]]:
    """How the page looks, as height × width × 3 bytes, and what it asked for. Nothing that it asks for is found."""
    folder = page.parent / f"browser-{len(list(page.parent.iterdir()))}"
    folder.mkdir()
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command += ["--disable-background-networking", "--disable-sync", "--no-first-run", "--hide-scrollbars"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={folder}/log.json", *options]
    command += [f"--screenshot={folder}/page.png", f"--window-size={width},1400", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=folder)
    assert (folder / "page.png").exists(), done.stderr
    return pixels_of((folder / "page.png").read_bytes()), asked_by_page((folder / "log.json").read_text())


def asked_by_page(log: str) -> set[str]:
    """The addresses in Chromium's own log of its network that the page wanted, not the browser."""
    told = json.loads(log)
    started = told["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    events = [event["params"] for event in told["events"] if event["type"] == started]
    return {params["url"] for params in events if "url" in params and params.get("initiator") != NOBODYS}


def pixels_of(png: bytes) -> np.ndarray:
    """The colours of a PNG of 8-bit RGB or RGBA, not interlaced (RFC 2083): what Chromium writes."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    channels = {2: 3, 6: 4}[kind]
    parts, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            parts.append(png[at + 8 : at + 8 + length])
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(b"".join(parts)), np.uint8).reshape(height, 1 + width * channels)
    rows = np.zeros((height + 1, width, channels), np.uint8)
    for number, line in enumerate(lines):
        rows[number + 1] = _unfiltered(int(line[0]), line[1:].reshape(width, channels), rows[number])
    return rows[1:, :, :3]


def _unfiltered(kind: int, line: np.ndarray, above: np.ndarray) -> np.ndarray:
    if kind == 0:
        return line
    if kind == 1:
        return np.cumsum(line, axis=0, dtype=np.uint8)
    if kind == 2:
        return line + above
    made = np.zeros_like(line)
    left = upper_left = np.zeros(line.shape[1], np.int64)
    for place in range(len(line)):
        up = above[place].astype(np.int64)
        if kind == 3:
            guess = (left + up) // 2
        else:
            near = left + up - upper_left
            a, b, c = abs(near - left), abs(near - up), abs(near - upper_left)
            guess = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, upper_left))
        made[place] = (line[place] + guess) & 0xFF
        left, upper_left = made[place].astype(np.int64), up
    return made


def share_of(pixels: np.ndarray, colour: str) -> float:
    wanted = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
    return float((pixels == wanted).all(axis=2).mean())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose nodes have names that would fetch and run if they were more than words."""
    from click.testing import CliRunner

    folder = tmp_path_factory.mktemp("page")
    store, file = make_store(folder / "record.duckdb"), folder / "report.html"
    result = CliRunner().invoke(cli, ["report", RUNS[0], "--store", str(store), "-o", str(file)], prog_name="fednode")
    assert result.exit_code == 0, result.output
    return file


def test_no_request_leaves_the_page(page: Path) -> None:
    pixels, asked = opened(page)
    assert asked == set()
    assert share_of(pixels, LIGHT["page"]) > 0.5
    for name in ("ink", "mean", "series-0", "series-1", "series-2"):  # words, curves, bars
        assert share_of(pixels, LIGHT[name]) > 2e-5, name


def test_it_is_dark_where_its_reader_likes_it_so(page: Path) -> None:
    pixels, asked = opened(page, "--force-dark-mode")
    assert asked == set()
    assert share_of(pixels, DARK["page"]) > 0.5
    assert share_of(pixels, DARK["ink"]) > 1e-4


def test_a_request_would_be_seen(page: Path) -> None:
    """The check itself: a page that fetches is caught, and one that only forgot its policy is not."""
    told = page.read_text()
    policy = told[told.index('<meta http-equiv="Content-Security-Policy"') :].split("\n")[0]
    bare = told.replace(policy, "")
    worse = page.with_name("worse.html")
    worse.write_text(bare)
    assert opened(worse)[1] == set()
    worse.write_text(bare.replace("<main>", '<main><img src="http://evil.example/x.png">'))
    assert opened(worse)[1] == {"http://evil.example/x.png"}
    worse.write_text(told.replace("<main>", '<main><img src="http://evil.example/x.png">'))
    assert opened(worse)[1] == set()  # the page's policy holds it back
