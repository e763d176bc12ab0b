"""What one does at the dashboard, done to real nodes: a group, an invitation, joining, removing, a run from its
proposal to its model and its export, a proposal that is declined."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nodes import DIGITS, RealNode, Study, real_nodes, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "tui"))

from textual.widgets import Log
from tui_stage import Stage, stage

from node.cli import cli
from node.data.shares import digits_split
from tui.feeds.client import ApiClient
from tui.feeds.command_line import CommandLine
from tui.feeds.feed import LiveFeed
from tui.widgets.dialogs import Question
from tui.widgets.forms import Form
from tui.widgets.propose import ProposeForm
from tui.widgets.windows import CommandWindow, TokenWindow

DEADLINE_S = 120.0  # of a whole test at the dashboard; real nodes on loaded machines take their time
STEP_DEADLINE_S = 40.0
POLL_S = 0.02
# After every key the pilot waits until the app is idle, for three seconds at most. While there is something new all the
# time, an app that paints it at once never is.
REPAINT_S = 0.2


@asynccontextmanager
async def dashboard(node: RealNode) -> AsyncIterator[Stage]:
    home = str(node.home)
    line = CommandLine(cli, ("--home", home))
    async with stage(None, (120, 40), LiveFeed(lambda: ApiClient(home)), REPAINT_S, command_line=line) as on:
        await until(on, lambda: on.app.state.connection.state == "live")
        yield on


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), DEADLINE_S))


async def until(on: Stage, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + STEP_DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{on.told()}\n{on.text()}"
        on.clock.now += 1  # so that questions are asked again
        await on.pilot.pause(POLL_S)


async def screen(on: Stage, kind: type) -> Any:
    await until(on, lambda: isinstance(on.app.screen, kind))
    await on.pilot.pause()
    return on.app.screen


async def command(on: Stage, *path: str, **values: str) -> CommandWindow:
    """Open a command's form, fill it in, carry it out with yes where that is asked; its window once it has ended."""
    on.app.open_command(path)
    form = await screen(on, Form)
    for name, value in values.items():
        form.rows[name].value = value
    await on.pilot.pause()
    await on.press("enter")
    if isinstance(on.app.screen, Question):
        await on.press("y")
    window = await screen(on, CommandWindow)
    await until(on, lambda: window.ended)
    assert window.ended == "done (exit code 0)", on.text()
    await on.press("escape")
    return window


def test_a_group_is_begun_joined_and_left_by_two_dashboards(tmp_path: Path) -> None:
    async def begin(node: RealNode) -> str:
        async with dashboard(node) as on:
            on.app.open_command(("group", "create"))
            await screen(on, Form)
            await on.press(*"wards", "enter")
            await until(on, lambda: on.app.state.groups)
            on.app.open_command(("invite",))
            await screen(on, Form)
            await on.press("enter")
            await screen(on, TokenWindow)
            await on.press("y")
            return str(on.app.clipboard)

    async def enter(node: RealNode, token: str) -> None:
        async with dashboard(node) as on:
            on.app.open_command(("join",))
            form = await screen(on, Form)
            form.rows["token"].value = token[:-1] + ("a" if token[-1] != "a" else "b")
            await on.press("enter")
            await until(on, lambda: "✗" in on.text())  # mistyped, and said so
            form.rows["token"].value = token
            await on.press("enter")
            await until(on, lambda: "you are in wards as member" in on.told())

    async def put_out(node: RealNode, other: str) -> None:
        async with dashboard(node) as on:
            await on.press("8")
            await until(on, lambda: other in on.text())
            await on.press("j", "r", "right", "enter")  # from member to observer
            await until(on, lambda: "has the role observer now" in on.told())
            await until(on, lambda: not isinstance(on.app.screen, Form))
            await on.press("d")
            await screen(on, Form)
            await until(on, lambda: "and its nodes (beta) from wards" in on.text())
            await on.press(*"a test", "enter")
            await until(on, lambda: "is out of wards" in on.told())

    with real_nodes(tmp_path, "alpha", "beta") as (alpha, beta):

        async def scene() -> None:
            await enter(beta, await begin(alpha))

        play(scene)
        (group,) = beta.client.groups()["groups"]
        assert (group["name"], len(group["members"])) == ("wards", 2)
        assert alpha.client.groups()["groups"][0]["invitations"][0]["uses"] == 1
        play(lambda: put_out(alpha, "beta"))
        assert len(alpha.client.groups()["groups"][0]["members"]) == 1
        wait_until(lambda: beta.client.status()["groups"][0]["out"], "the removed node is told that it is out")


def test_a_run_from_its_proposal_to_its_model(study: Study, tmp_path: Path) -> None:
    first = study.nodes[0]
    model, tables = tmp_path / "a model.safetensors", tmp_path / "tables"

    async def propose(on: Stage) -> str:
        await on.press("P")
        form = await screen(on, ProposeForm)
        form.rows["training.rounds"].value = "0"
        await until(on, lambda: "✗ training.rounds is 0" in on.text())
        form.rows["training.rounds"].value = "100000"
        form.rows["name"].value = "from the dashboard"
        form.rows["roster.nodes_min"].value = "3"
        await on.pilot.pause()
        await on.press("ctrl+s")
        await until(on, lambda: "from the dashboard is proposed" in on.told())
        assert on.app.view.id == "view-run"
        return str(on.app.choice.run_id)

    async def scene() -> None:
        async with dashboard(first) as on:
            run = await propose(on)
            await until(on, lambda: (known := on.app.state.run(run)) is not None and known.round >= 2)
            await on.press("S")
            await screen(on, Question)
            await on.press("y")
            await until(on, lambda: on.app.state.run(run).state == "STOPPED")
            on.app.action_resume()
            await until(on, lambda: on.app.state.run(run).state == "RUNNING")
            await command(on, "run", "stop", reason="it has been enough")
            await until(on, lambda: on.app.state.run(run).state == "STOPPED")
            await command(on, "model", "get", output=str(model))
            await command(on, "export", "parquet", places=f"'from the dashboard' '{tables}'")
            on.app.open_command(("model", "get"), {"output": str(model), "force": "yes"})
            await screen(on, Form)
            await on.press("enter")
            await screen(on, Question)
            assert "A file of that name is replaced." in on.text()
            await on.press("n")

    play(scene)
    (made,) = [run for run in first.client.runs()["runs"] if run["name"] == "from the dashboard"]
    assert made["reason"] == "it has been enough"
    assert model.stat().st_size > 1000
    assert (tables / "metrics.parquet").stat().st_size > 0
    study.all_end(made["run_id"])


def test_a_proposal_is_declined_with_a_reason(study: Study) -> None:
    ours, other = study.nodes[:2]
    ours.client.set_policy([])
    try:
        run = study.propose(other, rounds=3, task=DIGITS)

        async def scene() -> None:
            async with dashboard(ours) as on:
                await until(on, lambda: (shown := on.app.state.run(run)) is not None and shown.asks_us)
                on.app.choice.run_id = run
                await until(on, lambda: "waits for your answer" in on.text())
                await on.press("x", *"busy", "enter")
                await screen(on, Question)
                await on.press("y")
                await until(on, lambda: f"declined {on.app.state.run(run).name}" in on.told())

        play(scene)
        assert ours.client.run(run)["decision"] == "declined"
        other.wait_for_run(run, lambda seen: ours.state_in(seen) == "DECLINED", "the word of who declined")
    finally:
        ours.client.set_policy(["all"])
    other.client.stop_run(run, "it waits for three")
    study.all_end(run)


def test_a_data_set_is_added_and_removed(study: Study, tmp_path: Path) -> None:
    node = study.nodes[1]
    (path,) = digits_split(1, seed=3).write(tmp_path / "more")

    async def scene() -> None:
        async with dashboard(node) as on:
            await command(on, "data", "add", name="more", path=str(path))
            assert "more" in {entry["name"] for entry in node.client.data()["data"]}
            await command(on, "data", "remove", name="more")

    play(scene)
    assert "more" not in {entry["name"] for entry in node.client.data()["data"]}


def test_a_command_that_goes_on_is_ended_with_its_window(study: Study) -> None:
    async def scene() -> None:
        async with dashboard(study.nodes[2]) as on:
            on.app.open_command(("run", "logs"), {"follow": "yes"})
            form = await screen(on, Form)
            form.rows["run_name"].value = ""  # of no run, which might be over, but of everything
            await on.press("enter")
            window = await screen(on, CommandWindow)
            await until(on, lambda: window.query_one(Log).lines)
            assert not window.ended
            await on.press("escape")
            await until(on, lambda: window.ended)

    play(scene)


@pytest.fixture(autouse=True)
def _no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
