"""What every view looks like, character by character, at the sizes that matter.

Set FEDNODE_REDRAW=1 to write the pictures under tests/tui/pictures anew; look at them before you keep them.
"""

import os
import time
from pathlib import Path

import pytest
from tui_answers_data import ANSWERS as DATA
from tui_answers_devices import ANSWERS as DEVICES
from tui_answers_group import ANSWERS as GROUP
from tui_answers_inbox import ANSWERS as INBOX
from tui_answers_run import ANSWERS as RUN
from tui_answers_runs import ANSWERS as RUNS
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_stage import play, stage

from tui.app import VIEWS

PICTURES = Path(__file__).with_name("pictures")
MIDDLE = 110
ANSWERS = {"rounds": rounds_answer(), **RUN, **DEVICES, **INBOX, **DATA, **RUNS, **GROUP}
SIZES = ((80, 24), (120, 36), (200, 60))
RUN_PANELS = {"gantt": "bbb", "events": "bbbb", "cursor": ("left", "left", "left")}  # one at a time, where room lacks
SCENES = [(name, size, MIDDLE, (key,)) for name, (key, _) in VIEWS.items() for size in SIZES]
SCENES += [(f"run-{panel}", (80, 24), MIDDLE, ("3", *keys)) for panel, keys in RUN_PANELS.items()]
SCENES += [(f"data-{tab}", (80, 24), MIDDLE, ("6", key)) for tab, key in (("models", "e"), ("artifacts", "f"))]
SCENES += [("logs-matches", (80, 24), MIDDLE, ("7", "slash", *"round", "enter", "escape", "k", "k"))]
SCENES += [("help", (80, 24), MIDDLE, ("question_mark",)), ("nothing", (80, 24), 0, ())]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    """Times are shown in this machine's zone, so there must be but one."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("name", "size", "upto", "keys"), SCENES, ids=lambda part: str(part).replace(" ", ""))
def test_the_view_looks_as_it_did(name, size, upto, keys):
    async def scene():
        events = recorded()[:upto] if upto != 0 else [{"type": "snapshot"}]
        client = FakeClient(events, ANSWERS)
        async with stage(client, size) as on:
            await on.until(lambda: client.told == len(events))
            await on.press(*keys)
            await on.until(lambda: not on.app.questions.waiting)
            await on.settle()
            compare(f"{name}_{size[0]}x{size[1]}", on.text())

    play(scene)


def compare(name, text):
    path = PICTURES / f"{name}.txt"
    if os.environ.get("FEDNODE_REDRAW"):
        PICTURES.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
