"""The demo without its nodes: what it runs, how it counts and words what came of it, what it shows."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fednode import Source
from node.cli import demo as demo_command
from node.data.shares import digits_split
from node.demo import scores as demo_scores
from node.demo import words as demo_words
from node.demo.processes import free_ports
from node.demo.screen import Screen
from node.demo.words import Curves, configuration, outcome_of, shown_rounds, spark, steps_to_look_further, verdict
from node.tasks.digits import Digits
from protocol.manifest.keys import KEYS
from protocol.manifest.read import read_configuration

ROOT = Path(__file__).parents[2]
RUN = {"run_id": "ab" * 32, "round": 2, "aggregator_name": "node-1", "elections": 1}
CURVES = Curves({1: 0.5, 2: 0.91234}, {1: 0.4, 2: 0.7}, {1: 0.9, 2: 0.95})


def outcome(together: float, alone: float, pooled: float) -> demo_words.Outcome:
    curves = Curves({1: 0.1, 2: together}, {2: alone}, {2: pooled})
    return outcome_of(RUN, curves, nodes=3, seconds=1.0, homes=[])


# --- what runs -------------------------------------------------------------------------------------------------
def test_the_configuration_is_one_that_a_node_takes_and_trains_as_the_comparison_does():
    read = read_configuration(configuration(7, 3), source="", overrides={})
    assert not read.taken_as
    keys = read.configuration
    assert (keys.name, keys.task.name, keys.data.name) == (demo_words.RUN, "digits", "digits")
    assert (keys.roster.nodes_min, keys.training.rounds, keys.seed) == (7, 3, demo_words.SEED)
    training = keys.training.model_dump()
    assert {key: training[key] for key in demo_words.TRAINING} == demo_words.TRAINING
    assert keys.aggregation.codec == demo_scores.CODEC
    assert KEYS["aggregation.codec"].choices == demo_command.CODECS
    for codec in demo_command.CODECS:
        read = read_configuration(configuration(7, 3, codec), source="", overrides={})
        assert read.configuration.aggregation.codec == codec


def test_pooled_training_sees_the_rows_that_the_nodes_train_on_and_no_others(tmp_path):
    split = digits_split(3, demo_words.SHARES_ALPHA, demo_words.SEED)
    paths = split.write(tmp_path)
    demo_scores.write_pooled(split, tmp_path / "pooled.npz")
    pooled = Digits({}).data(Source(tmp_path / "pooled.npz", {"evaluation_share": 0.0}))
    assert pooled.evaluation is None
    trained_on = [row for path in paths for row in Digits({}).data(Source(path)).train[0].numpy().tolist()]
    assert pooled.train[0].numpy().tolist() == trained_on
    held_out = Digits({}).data(Source(tmp_path / "held-out.npz", {"evaluation_share": 1.0}))
    assert len(held_out.train[0]) == 0
    assert held_out.evaluation is not None
    rows = {row.tobytes() for row in held_out.evaluation[0].numpy()}
    assert not rows & {np.array(row, np.float32).tobytes() for row in trained_on}


def test_digits_are_counted():
    assert demo_scores.digits_of(np.array([0, 9, 9])) == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]


def test_ports_are_neighbours_and_nobody_gets_anothers():
    ports = free_ports(32)
    taken = [port for first in ports for port in (first, first + 1)]
    assert len(ports) == 32
    assert len(set(taken)) == 64


def test_the_demo_itself_loads_neither_torch_nor_what_nodes_need():
    heavy = ("torch", "sklearn", "numpy", "libp2p", "duckdb", "pydantic", "starlette")
    code = f"import node.demo.demo, sys; print(sorted(set({heavy!r}) & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert told.stdout.strip() == "[]"


# --- what came of it -------------------------------------------------------------------------------------------
def test_the_outcome_of_a_run():
    measured = {"seconds": 12.3456, "codec": "int8", "bytes_trained": 1001}
    plain = outcome_of(RUN, CURVES, nodes=3, homes=[Path("/a/node-0")], **measured).plain()
    assert plain == {
        "run": "ab" * 32,
        "nodes": 3,
        "rounds_committed": 2,
        "aggregator": "node-1",
        "accuracy_first": 0.5,
        "accuracy_final": 0.9123,
        "accuracy_alone": 0.7,
        "accuracy_pooled": 0.95,
        "elections": 1,
        "codec": "int8",
        "bytes_per_round": 500,
        "seconds": 12.35,
        "homes": ["/a/node-0"],
    }


def test_the_outcome_without_training():
    plain = outcome_of(None, Curves(), nodes=2, seconds=1.0, homes=[]).plain()
    assert (plain["run"], plain["rounds_committed"], plain["accuracy_final"], plain["elections"]) == (None, 0, None, 0)


def test_curves_are_complete_when_every_round_is_measured_three_times():
    assert CURVES.are_complete(2)
    assert not CURVES.are_complete(3)
    assert not Curves({1: 0.5}, {1: 0.5}, {}).are_complete(1)


@pytest.mark.parametrize(
    ("together", "alone", "pooled", "said"),
    [
        (0.95, 0.75, 0.97, "20.0 points better than alone, and 2.0 points short of"),
        (0.95, 0.94, 0.95, "1.0 point better than alone, and exactly as good as"),
        (0.50, 0.75, 0.40, "25.0 points worse than alone, and 10.0 points better than"),
    ],
)
def test_the_verdict_says_what_the_figures_say(together, alone, pooled, said):
    assert said in verdict(outcome(together, alone, pooled))


@pytest.mark.parametrize("rounds", [1, 10, 30, 31, 1000])
def test_the_table_has_the_first_and_the_last_round_and_fits_a_screen_or_two(rounds):
    shown = shown_rounds(rounds)
    assert shown[0] == 1
    assert shown[-1] == rounds
    assert shown == sorted(set(shown))
    assert len(shown) == min(rounds, demo_words.ROWS_MAX)


def test_a_curve_is_drawn_from_nothing_to_all():
    assert spark([0.0, 0.5, 1.0, 1.5, -1.0]) == "▁▅██▁"


def test_next_steps_name_the_kept_homes():
    kept = dict(steps_to_look_further(Path("here"), trained=True))
    assert "fednode start --home here/node-0 --detach" in kept
    assert "fednode run metrics demo --home here/node-0" in kept
    assert not any("--keep" in command for command in kept)
    gone = dict(steps_to_look_further(None, trained=False))
    assert "fednode demo --keep demo" in gone
    assert not any("metrics" in command for command in gone)


# --- what is shown ---------------------------------------------------------------------------------------------
def test_a_pipe_gets_a_line_for_every_step_and_round():
    file = io.StringIO()
    screen = Screen(file)
    screen.open()
    screen.introduce(3)
    screen.begin("Something starts")
    screen.done("Something is done")
    screen.scored(1, 2, 0.5)
    screen.close()
    text = file.getvalue()
    assert "3 owners of data, one model, no server" in text
    assert "✓ Something is done" in text
    assert "round 1 of 2: 50.0 % of the held-out digits right" in text
    assert "\x1b" not in text
    assert "Something starts" not in text


def test_shares_and_the_report_are_tables(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file = io.StringIO()
    screen = Screen(file)
    screen.shares([[1] * 10] * 12, [0] * 9 + [7])
    screen.report(outcome_of(RUN, CURVES, nodes=12, seconds=1, homes=[]), CURVES, 7)
    screen.facts([("aggregator", "node-1")])
    screen.next_steps([("a" * 60, "dropped, for it does not fit"), ("short", "said")])
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["node-7", *["1"] * 10, "10"] for line in lines)
    assert any(line.split() == ["and", "4", "more"] for line in lines)
    assert any(line.split() == ["held", "out", *["·"] * 9, "7", "7"] for line in lines)
    assert any("91.2 %" in line and "70.0 %" in line and "95.0 %" in line for line in lines)
    assert lines[-2].split() == ["look", "further", "a" * 60]


def test_a_running_round_shows_who_does_what(monkeypatch):
    file = io.StringIO()
    screen = Screen(file)
    participants = [{"name": "node-10", "state": "WAITING"}, {"name": "node-2", "state": "TRAINING"}]
    run = {"rounds": 5, "round": 1, "aggregator_name": "node-2", "participants": participants, "note": "a note"}
    screen.training(run, CURVES, {"node-2": 77})
    screen.show_drawing()
    lines = file.getvalue().splitlines()
    assert "Round 2 of 5" in lines[0]
    assert lines[2].split() == [
        "node-2",
        "trains",
        "on",
        "its",
        "own",
        "digits",
        "process",
        "77",
        "elected",
        "to",
        "combine",
    ]
    assert lines[3].split()[:4] == ["node-10", "waits", "for", "the"]
    assert "91.2 %" in lines[4]
    assert "a note" in lines[5]
