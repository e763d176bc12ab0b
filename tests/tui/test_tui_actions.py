"""What is done from the dashboard, under somebody's hands: the palette, forms of commands, dialogs, a proposal."""

import os
import select
import sys
import tomllib

import pytest
from textual.widgets import Log, TextArea
from tui_fakes import FakeClient, recorded
from tui_pictures import SIZES, compare
from tui_stage import play, stage

from fednode import ClientError
from node.cli import cli
from node.run.proposal import templates
from tui.feeds.command_line import CommandLine
from tui.widgets.dialogs import Question
from tui.widgets.forms import Form
from tui.widgets.palette import LATELY_MAX
from tui.widgets.propose import ProposeForm
from tui.widgets.windows import CommandWindow, TokenWindow

DIGITS = "005f3a9c2e7b41d8"
TOKEN = "fednode1-" + "abcdefgh234567" * 12
INVITATION = {"token": TOKEN, "uses": 1, "role": "observer", "group": "hospital-study", "expires_at": "2026"}
GOOD = {"problems": [], "taken_as": [], "manifest": {}, "warnings": []}
# Says what it was called with, and ends as it is told.
ECHO = "import sys; print('called with', *sys.argv[1:]); sys.exit(4 if 'stop' in sys.argv else 0)"
SLEEP = "import os, time; print('asleep', os.getpid(), flush=True); time.sleep(600)"


def client_of(**answers):
    answers = {"templates": templates(), "data": {"data": [{"name": "wards"}]}, "check": GOOD, **answers}
    return FakeClient(recorded()[:110], answers)


def line_of(code=ECHO):
    return CommandLine(cli, program=(sys.executable, "-c", code))


async def screen(on, kind):
    """The screen of this kind once it is in sight."""
    await on.until(lambda: isinstance(on.app.screen, kind))
    await on.pilot.pause()
    return on.app.screen


async def fill(on, form, name, text):
    row = form.rows[name]
    row.editor.focus()
    row.editor.value = ""
    await on.pilot.pause()
    await on.press(*text)


# --- how they look ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["propose", "command", "asked", "token"])
def test_a_dialog_looks_as_it_did(name, size):
    async def scene():
        client = client_of(check=bad_rounds(), invitations=INVITATION)
        async with stage(client, size, command_line=line_of()) as on:
            if name == "propose":
                await on.press("P")
                form = await screen(on, ProposeForm)
                await on.until(lambda: form.verdict.troubles)
            elif name == "token":
                on.app.open_command(("invite",))
                await screen(on, Form)
                await on.press("enter")
                await screen(on, TokenWindow)
            else:
                on.app.open_command(("run", "stop"))
                await screen(on, Form)
                await on.press("down", *"it's late", *(["enter"] if name == "asked" else []))
            await on.settle()
            x, y, width, height = (
                on.app.screen.query("Vertical, VerticalScroll").first().region
            )  # what it stands over is another picture's matter
            lines = on.text().splitlines()[y : y + height]
            compare(f"dialog-{name}_{size[0]}x{size[1]}", "".join(f"{line[x : x + width]}\n" for line in lines))

    play(scene)


# --- the palette -------------------------------------------------------------------------------------------------
def test_the_palette_offers_every_command_with_keys_beside_deeds():
    async def scene():
        line = line_of()
        async with stage(client_of(), command_line=line) as on:
            assert not on.app.actions.command_deeds()  # nothing is loaded before somebody asks
            await on.press("ctrl+p")
            await on.until(lambda: on.app.actions.command_deeds())
            names = {deed.name for deed in on.app.deeds()}
            assert {f"fednode {' '.join(spec.path)}" for spec in await line.specs()} <= names
            assert {"Propose a run", "Invite somebody", "Create a group", "Join a group with a token"} <= names
            assert "Get the model of digits-mlp" in names
            keys = {deed.name: deed.key for deed in on.app.deeds()}
            assert keys["Stop run digits-mlp"] == "S"
            await on.press(*"stop run dig")
            await on.until(lambda: "Stop run digits-mlp   S" in on.text())

    play(scene)


def test_names_in_the_palette_are_no_markup():
    async def scene():
        events = recorded()[:110]
        for event in events:
            for run in [event["run"]] if "run" in event else event.get("runs", []):
                run["name"] = "[red]evil[/red][/nothing"
        async with stage(FakeClient(events), command_line=line_of()) as on:
            await on.press("ctrl+p")
            await on.press(*"evil")
            await on.until(lambda: "[red]evil[/red][/nothing" in on.text())

    play(scene)


def test_what_was_used_lately_stands_first():
    async def scene():
        async with stage(client_of(), command_line=line_of()) as on:
            on.app.lately = [f"gone {number}" for number in range(LATELY_MAX)]
            await on.press("ctrl+p")
            await on.until(lambda: on.app.actions.command_deeds())
            await on.press(*"fednode peers")
            await on.until(lambda: "List the nodes of your groups" in on.text())
            await on.press("enter")
            if not isinstance(on.app.screen, CommandWindow):  # the first Enter only goes into the list
                await on.press("enter")
            window = await screen(on, CommandWindow)
            await on.until(lambda: window.ended)
            await on.press("escape")
            assert on.app.lately[0] == "fednode peers"
            assert len(on.app.lately) == LATELY_MAX
            await on.press("ctrl+p")
            await on.until(lambda: "fednode peers" in on.text())

    play(scene)


# --- commands ----------------------------------------------------------------------------------------------------
def test_a_commands_form_is_filled_in_shows_its_line_and_runs_it():
    async def scene():
        async with stage(client_of(), command_line=line_of()) as on:
            on.app.open_command(("run", "metrics"))
            form = await screen(on, Form)
            assert "$ fednode run metrics digits-mlp" in on.text()
            await fill(on, form, "limit", "0")
            assert "✗" in on.text()
            await on.press("enter")
            assert on.app.screen is form  # it cannot be carried out
            await on.press("backspace", "5")
            assert "$ fednode run metrics --limit 5 digits-mlp" in on.text()
            form.rows["as_csv"].editor.focus()
            await on.press("right")
            assert "$ fednode run metrics --limit 5 --csv digits-mlp" in on.text()
            await on.press("enter")
            window = await screen(on, CommandWindow)
            await on.until(lambda: window.ended)
            assert list(window.query_one(Log).lines) == ["called with run metrics --limit 5 --csv digits-mlp"]
            assert "done (exit code 0)" in on.text()
            await on.press("escape")
            assert not isinstance(on.app.screen, CommandWindow)

    play(scene)


def test_what_destroys_asks_once_and_says_what_will_happen():
    async def scene():
        async with stage(client_of(), command_line=line_of()) as on:
            on.app.open_command(("run", "stop"))
            await screen(on, Form)
            await on.press("enter")
            await screen(on, Question)
            assert "The run ends for all of its nodes at its newest checkpoint." in on.text()
            assert "$ fednode run stop digits-mlp" in on.text()
            await on.press("n")
            form = await screen(on, Form)
            await on.press("enter")
            await screen(on, Question)
            await on.press("y")
            window = await screen(on, CommandWindow)
            await on.until(lambda: window.ended)
            assert "refused (exit code 4)" in on.text()
            assert form not in on.app.screen_stack
            await on.press("escape")
            on.app.open_command(("stop",))  # has nothing to fill in
            await screen(on, Question)
            assert "until it is started again" in on.text()
            await on.press("escape")
            assert len(on.app.screen_stack) == 1

    play(scene)


def test_escape_stops_a_command_and_then_closes_its_window():
    async def scene():
        async with stage(client_of(), command_line=line_of(SLEEP)) as on:
            on.app.open_command(("peers",))
            window = await screen(on, CommandWindow)
            await on.until(lambda: "asleep" in on.text())
            await on.press("enter", "q")
            assert on.app.screen is window
            await on.press("escape")
            await on.until(lambda: window.ended)
            assert "stopped" in on.text()
            await on.press("y")
            assert "asleep" in on.app.clipboard
            await on.press("escape")
            assert on.app.screen is not window

    play(scene)


def test_no_command_outlives_the_dashboard():
    async def scene():
        async with stage(client_of(), command_line=line_of(SLEEP)) as on:
            on.app.open_command(("peers",))
            window = await screen(on, CommandWindow)
            await on.until(lambda: window.query_one(Log).lines)
            ended = os.pidfd_open(int(window.query_one(Log).lines[0].split()[1]))
        assert select.select([ended], [], [], 10)[0]
        os.close(ended)

    play(scene)


def test_a_command_that_is_not_there_is_told():
    async def scene():
        async with stage(client_of()) as on:
            on.app.open_command(("run", "stop"))
            await on.until(lambda: "no command fednode run stop" in on.told())

    play(scene)


def test_after_a_command_what_is_in_sight_is_asked_anew():
    async def scene():
        client = client_of()
        async with stage(client, command_line=line_of()) as on:
            await on.press("6")
            await on.until(lambda: ("data",) in client.asked)
            await on.settle()
            before = client.asked.count(("data",))
            on.app.open_command(("data", "list"))
            window = await screen(on, CommandWindow)
            await on.until(lambda: window.ended)
            await on.press("escape")
            await on.settle()
            await on.until(lambda: client.asked.count(("data",)) > before)

    play(scene)


# --- dialogs -----------------------------------------------------------------------------------------------------
def test_a_group_is_created():
    async def scene():
        client = client_of(groups={"name": "ward study"})
        async with stage(client) as on:
            on.app.open_command(("group", "create"))
            await screen(on, Form)
            await on.press("enter")
            assert "this is needed" in on.text()
            await on.press(*"ward study")
            assert "this is needed" not in on.text()
            await on.press("enter")
            await on.until(lambda: "group ward study is there" in on.told())
            assert ("POST", ("groups",), {"name": "ward study"}) in client.bodies
            assert len(on.app.screen_stack) == 1

    play(scene)


def test_an_invitation_shows_its_token_and_its_code():
    async def scene():
        client = client_of(invitations=INVITATION)
        async with stage(client, (120, 50)) as on:
            on.app.open_command(("invite",))
            form = await screen(on, Form)
            await on.press("right")
            await fill(on, form, "expires", "soon")
            assert "a number and s, m, h, d or w" in on.text()
            await fill(on, form, "expires", "12h")
            await on.press("enter")
            await screen(on, TokenWindow)
            asked = {"role": "observer", "uses": 1, "expires_s": 43_200, "qr": True}
            assert ("POST", ("invitations",), asked) in client.bodies
            assert "Who has it enters hospital-study as observer, once, within 12h." in on.text()
            assert TOKEN[:60] in on.text()
            assert "▀▄" in on.text()
            await on.press("y")
            assert on.app.clipboard == TOKEN
            await on.press("escape")
            assert len(on.app.screen_stack) == 1

    play(scene)


def test_a_token_is_pasted_in_lines_and_a_refusal_is_explained():
    async def scene():
        client = client_of(join=ClientError("The invitation has expired", remedy="ask for a new one"))
        async with stage(client) as on:
            on.app.open_command(("join",))
            form = await screen(on, Form)
            await paste(on, f"  {TOKEN[:40]}\n  {TOKEN[40:]}\n")
            assert form.values == {"token": TOKEN}
            await on.press("enter")
            await on.until(lambda: "✗ The invitation has expired – ask for a new one" in on.text())
            client.answers["join"] = {"name": "study", "role": "member"}
            await on.press("enter")
            await on.until(lambda: "you are in study as member" in on.told())
            assert client.bodies[-1] == ("POST", ("join",), {"token": TOKEN})

    play(scene)


async def paste(on, text):
    from textual.events import Paste

    on.app.focused.post_message(Paste(text))
    await on.pilot.pause()


def test_what_is_no_token_is_said_while_one_types():
    async def scene():
        async with stage(client_of()) as on:
            on.app.open_command(("join",))
            await screen(on, Form)
            await on.press(*"fed")
            assert "a token begins with" not in on.text()
            await on.press(*"x")
            assert "a token begins with fednode" in on.text()
            await on.press("backspace", *"node-link")
            assert "would make this machine its maker's" in on.text()

    play(scene)


# --- a proposal --------------------------------------------------------------------------------------------------
def bad_rounds(**problem):
    what = {"key": "training.rounds", "what": "training.rounds is 0; allowed is 1", "remedy": "", **problem}
    return {**GOOD, "problems": [what], "warnings": ["it waits for 2 nodes, and 1 are here now"]}


def test_a_run_is_proposed_from_a_template():
    async def scene():
        client = client_of(runs={"name": "quick", "run_id": DIGITS})
        async with stage(client) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            await on.until(lambda: "✓ it can be proposed as it is" in on.text())
            assert form.config == templates()["templates"][0]["config"]
            await fill(on, form, "name", "quick")
            await fill(on, form, "training.rounds", "3")
            await fill(on, form, "data.name", "wa")
            await on.press("right")  # takes what is suggested
            assert "rounds = 3" in form.query_one(TextArea).text
            await on.press("ctrl+s")
            await on.until(lambda: "quick is proposed" in on.told())
            assert len(on.app.screen_stack) == 1
            assert on.app.view.id == "view-run"
            assert on.app.choice.run_id == DIGITS
            (sent,) = [body for _, path, body in client.bodies if path == ("runs",)]
            config = templates()["templates"][0]["config"]
            config = config.replace('"digits-run"', '"quick"').replace("rounds = 10", "rounds = 3")
            assert sent == {"config": config.replace('[data]\nname = "digits"', '[data]\nname = "wards"')}

    play(scene)


def test_the_nodes_word_stands_at_its_field_and_nothing_is_sent():
    async def scene():
        client = client_of(check=bad_rounds())
        async with stage(client) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            await fill(on, form, "training.rounds", "0")
            await on.until(lambda: "✗ training.rounds is 0; allowed is 1" in on.text())
            assert "· it waits for 2 nodes, and 1 are here now" in on.text()
            await on.press("ctrl+s")
            assert on.app.focused is form.rows["training.rounds"].editor
            assert not [path for _, path, _ in client.bodies if path == ("runs",)]
            client.answers["check"] = bad_rounds(key="round.deadline_s", what="round.deadline_s is odd")
            await on.press("1")
            await on.until(lambda: "✗ round.deadline_s is odd" in on.text())  # no field of that
            client.answers["check"] = ClientError("The node is busy", remedy="wait")
            await on.press("1")
            await on.until(lambda: "✗ The node is busy – wait" in on.text())
            await on.press("ctrl+s")
            assert not [path for _, path, _ in client.bodies if path == ("runs",)]

    play(scene)


def test_a_quick_typist_is_checked_when_done():
    async def scene():
        client = client_of()
        async with stage(client) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            await on.until(lambda: form.verdict.is_good and client.bodies)
            await fill(on, form, "name", "a rather long name")
            await on.until(lambda: '"a rather long name"' in client.bodies[-1][2]["config"])
            checks = [body for _, path, body in client.bodies if path == ("runs", "check")]
            assert len(checks) < 10  # not one for each of the letters

    play(scene)


def test_form_and_text_are_one_and_a_draft_is_kept():
    async def scene():
        client = client_of()
        async with stage(client, (80, 24)) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            area = form.query_one(TextArea)
            assert not area.display
            await on.press("f2")
            assert area.has_focus
            area.text = area.text.replace("rounds = 10", "rounds = 77").replace("[data]", "[data]\n# ours")
            await on.pilot.pause()
            assert form.rows["training.rounds"].value == "77"
            area.text = area.text + "[round\n"
            await on.pilot.pause()
            assert form.rows["training.rounds"].value == "77"
            area.text = area.text.replace("[round\n", '[aggregation]\ncodec = "fp32"\n')
            await on.press("f2")
            await fill(on, form, "training.rounds", "78")
            assert "# ours" in form.config
            assert 'codec = "fp32"' in form.config
            await on.until(lambda: client.bodies and "rounds = 78" in client.bodies[-1][2]["config"])
            await on.press("escape")
            await on.press("P")
            again = await screen(on, ProposeForm)
            assert again.config == form.config

    play(scene)


def test_a_task_of_ones_own_asks_for_its_file():
    async def scene():
        async with stage(client_of()) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            assert not form.rows["task.path"].display
            await on.press("left")
            await on.pilot.pause()
            assert form.rows["task.path"].display
            await on.press("down", *"/x/my_task.py")
            assert tomllib.loads(form.config)["task"] == {"path": "/x/my_task.py"}

    play(scene)


def test_without_a_node_a_proposal_says_why():
    async def scene():
        client = client_of(templates=ClientError("No node is running", remedy="start it"))
        async with stage(client) as on:
            await on.press("P")
            await on.until(lambda: "No node is running – start it" in on.told())

    play(scene)


def test_several_groups_are_asked_for():
    async def scene():
        events = recorded()[:110]
        groups = events[0]["groups"]
        groups.append({**groups[0], "group_id": "second", "name": "second-study"})
        client = FakeClient(events, {"templates": templates(), "check": GOOD, "runs": {"name": "x", "run_id": DIGITS}})
        async with stage(client) as on:
            await on.press("P")
            form = await screen(on, ProposeForm)
            assert form.rows["group"].field.choices == ("hospital-study", "second-study")
            await on.press("right", "ctrl+s")
            await on.until(lambda: "x is proposed" in on.told())
            assert client.bodies[-1][2]["group"] == "second-study"

    play(scene)


def test_forms_fit_a_small_terminal():
    async def scene():
        async with stage(client_of(), (80, 24), command_line=line_of()) as on:
            for spec in await on.app.actions._command_line.specs():
                if spec.parameters and spec.path not in on.app.actions._own:
                    on.app.open_command(spec.path)
                    form = await screen(on, Form)
                    hints = form.query_one(".hints")
                    assert hints.region.bottom <= 23, spec.path
                    assert hints.region.height == 1
                    last = list(form.rows.values())[-1].editor
                    last.focus()
                    await on.pilot.pause()
                    box = form.query_one(".fields").region
                    assert box.contains_region(last.region.grow((0, 0, 0, 0))) or last.region.y < box.bottom, spec.path
                    await on.press("escape")

    play(scene)
