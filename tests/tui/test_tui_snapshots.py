"""What every view looks like, character by character, at the sizes that matter."""

import pytest
from tui_answers_data import ANSWERS as DATA
from tui_answers_devices import ANSWERS as DEVICES
from tui_answers_group import ANSWERS as GROUP
from tui_answers_inbox import ANSWERS as INBOX
from tui_answers_own import ANSWERS as OWN
from tui_answers_run import ANSWERS as RUN
from tui_answers_runs import ANSWERS as RUNS
from tui_fakes import FakeClient, recorded, rounds_answer
from tui_pictures import SIZES, compare
from tui_stage import play, stage

from tui.app import VIEWS

MIDDLE = 110
ANSWERS = {"rounds": rounds_answer(), **RUN, **DEVICES, **INBOX, **DATA, **RUNS, **GROUP, **OWN}
RUN_PANELS = {"gantt": "bbb", "events": "bbbb", "cursor": ("left", "left", "left")}  # one at a time, where room lacks
SCENES = [(name, size, MIDDLE, (key,)) for name, (key, _) in VIEWS.items() for size in SIZES]
SCENES += [(f"run-{panel}", (80, 24), MIDDLE, ("3", *keys)) for panel, keys in RUN_PANELS.items()]
SCENES += [(f"data-{tab}", (80, 24), MIDDLE, ("6", key)) for tab, key in (("models", "e"), ("artifacts", "f"))]
SCENES += [("devices-own", size, MIDDLE, ("5", "o")) for size in SIZES]
SCENES += [("logs-matches", (80, 24), MIDDLE, ("7", "slash", *"round", "enter", "escape", "k", "k"))]
SCENES += [("help", (80, 24), MIDDLE, ("question_mark",)), ("nothing", (80, 24), 0, ())]


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
