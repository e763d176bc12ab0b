"""Pictures of every screen of the dashboard during a real run of eight nodes, and a recording of such a run, into
docs/screens (`make screenshots`).

Eight nodes of one group run on this machine: one run has finished, one is going on and has lost its aggregator on the
way, and one waits for our answer. The dashboard that is drawn is the one of `fednode tui`, on one of these nodes. SVG
always; PNG too where there is a Chromium. The nodes live below TMPDIR, which some pictures show.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "real"), str(ROOT / "tests" / "tui")]

from nodes import RealNode, Study, real_nodes, start_all, wait_until  # noqa: E402
from tui_stage import Stage  # noqa: E402

from tui.app import VIEWS, Dashboard  # noqa: E402
from tui.feeds.client import ApiClient  # noqa: E402
from tui.feeds.feed import LiveFeed  # noqa: E402
from tui.feeds.recording import RecordingFeed  # noqa: E402

MEMBERS = {
    "ward-north": "City Hospital",
    "ward-south": "South Clinic",
    "radiology": "Dr. Okafor",
    "icu": "Saint Anne",
    "pathology": "Path Lab",
    "cardiology": "Heart Centre",
    "day-clinic": "Day Clinic",
    "archive": "University",
}
NAMES = tuple(MEMBERS)
SIZES = {"": (132, 40), "-80x24": (80, 24)}
SMALL = ("network", "run", "inbox")  # those that are also drawn at 80 by 24
BROWSER = os.environ.get("FEDNODE_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
SETTLE_S = 4.0  # of looking at a view before it is drawn: its answers are there, something is on its way
RECORDING = "eight-nodes.ndjson.gz"
RECORDED_ROUNDS = 90
ROUNDS_FIRST = 120  # of the run before the pictures: curves want points
CONFIGURATION = """
name = "{name}"
project = "digits"
experiment = "{experiment}"
tags = ["ward", "{experiment}"]
seed = 7
[task]
name = "digits"
[data]
name = "digits"
[training]
rounds = {rounds}
epochs = {epochs}
learning_rate = {rate}
[roster]
nodes_min = {nodes}
"""


class NamedNode(RealNode):
    """A node of a member with a name of its own."""

    def _command(self, *arguments):
        named = ("--member-name", MEMBERS[self.name]) if arguments[0] == "start" else ()
        return super()._command(*arguments, *named)


def propose(by, name, *, rounds, experiment="baseline", rate=0.1, epochs=1, nodes=len(NAMES)):
    config = CONFIGURATION.format(
        name=name, rounds=rounds, experiment=experiment, rate=rate, epochs=epochs, nodes=nodes
    )
    return by.client.start_run(config)["run_id"]


@contextmanager
def scene(folder, out):
    """The node to look from, while everything goes on."""
    with real_nodes(folder, *NAMES, kind=NamedNode) as nodes:
        study = Study(nodes, folder)
        study.form()
        ours, other = nodes[0], nodes[2]
        study.all_end(propose(other, "digits-baseline", rounds=12))
        ours.told("model", "tag", "digits-baseline", "digit-reader@champion")
        study.all_end(propose(other, "digits-slow", rounds=8, rate=0.02, experiment="rates"))
        asyncio.run(record(study, ours, other, out / RECORDING))
        going_on = propose(other, "digits-long", rounds=1000, rate=0.02, experiment="night")
        ours.client.invite(role="observer", uses=3)
        lose_the_aggregator(study, going_on, keep=ours)
        ours.client.set_policy(["mine"])
        propose(nodes[1], "digits-wide", rounds=200, rate=0.3, epochs=2, experiment="rates")
        ours.wait_for_round(going_on, ROUNDS_FIRST, 180)
        yield ours
        other.client.stop_run(going_on, "the pictures are taken")
        wait_until(lambda: ours.client.run(going_on)["state"] == "STOPPED", "the run stops")


def lose_the_aggregator(study, run, keep):
    """Kill who aggregates, so that there is an election to see, and start it again."""
    for _ in range(5):
        aggregator = study.aggregator_of(run)
        if aggregator is not keep:
            reached = aggregator.client.run(run)["round"]
            aggregator.kill()
            keep.wait_for_round(run, reached + 5, 90)
            start_all(study.nodes)
            return
        keep.wait_for_round(run, keep.client.run(run)["round"] + 1)
    raise RuntimeError("who aggregates is the one who looks, by lot: run this again")


async def record(study, ours, other, path):
    """Write down a whole run, with the loss of its aggregator, as one sees it on `ours`."""
    path.unlink(missing_ok=True)
    feed = RecordingFeed(LiveFeed(lambda: ApiClient(ours.home)), path)
    app = Dashboard(feed)
    async with app.run_test(size=SIZES[""], notifications=False) as pilot:
        on = Stage(app, pilot, app.clock)
        await on.until(lambda: app.state.snapshots)
        run = await asyncio.to_thread(propose, other, "digits-recorded", rounds=RECORDED_ROUNDS, rate=0.03)
        await on.until(lambda: app.state.run(run) is not None)
        await on.press("3")
        await asyncio.to_thread(ours.wait_for_round, run, RECORDED_ROUNDS // 3, 120)
        await asyncio.to_thread(lose_the_aggregator, study, run, ours)
        await asyncio.to_thread(study.all_end, run)
        await looked_at(on)
        assert app.state.run(run).state == "FINISHED"
    feed.close()
    print(path.name)


async def take(ours, out):
    for suffix, size in SIZES.items():
        app = Dashboard(LiveFeed(lambda: ApiClient(ours.home)))
        async with app.run_test(size=size, notifications=False) as pilot:
            on = Stage(app, pilot, app.clock)
            await on.until(lambda app=app: app.state.snapshots)
            for name, (key, _) in VIEWS.items():
                if suffix and name not in SMALL:
                    continue
                await on.press(key)
                await looked_at(on)
                save(app, out / f"{name}{suffix}.svg")
            if not suffix:
                await on.press("1", "question_mark")
                save(app, out / "help.svg")


async def looked_at(on):
    """Let the view get its answers, and events come for a while."""
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until or on.app.questions.waiting:
        await on.pilot.pause(0.2)


def save(app, path):
    path.write_text(app.export_screenshot())
    print(path.name)


def to_png(svg):
    """Draw it with a browser, as large as it says it is."""
    head = svg.read_text()[:400]
    box = head.split('viewBox="')[1].split('"')[0].split()
    page = svg.with_suffix(".html")
    page.write_text(f'<body style="margin:0"><img src="{svg.name}" style="display:block"></body>')
    window = f"--window-size={round(float(box[2]))},{round(float(box[3]))}"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", window]
    subprocess.run(
        [*command, f"--screenshot={svg.with_suffix('.png')}", f"file://{page}"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    page.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screens")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="fednode-screens-") as temporary,
        scene(Path(temporary), out) as ours,
    ):
        asyncio.run(take(ours, out))
    for svg in sorted(out.glob("*.svg")) if BROWSER else ():
        to_png(svg)


if __name__ == "__main__":
    main()
