"""Scenarios that come with fednode do as they should, at small size; and a seed replays exactly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.outcome import Wish, perform
from simulations.plan.read import load_scenario, shipped_names

# Smaller than they are shipped, where that still shows what they are for.
SIZES = {"quiet-week": (3, 2), "churn": (7, 4), "mass-join": (6, 14), "split-brain": (5, 20), "liars": (8, 4),
         "flapping-links": (5, 8), "rolling-restarts": (5, 10), "storm": (5, 6), "stragglers": (6, 3),
         "slow-disk": (5, 10), "aggregator-lost": (5, 12), "lying-aggregators": (7, 12),
         "removals": (9, 12), "mutual-removal": (7, 10), "used-twice": (8, 10), "hostile-strangers": (7, 10),
         "rogue-members": (9, 12)}  # fmt: skip
NOT_SO_SMALL = {"accuracy_min"}  # a few rounds on fewer data reach less


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_scenario_does_as_it_should(name: str) -> None:
    nodes, rounds = SIZES[name]
    simulation = perform(Wish(name, nodes, rounds, seed=2), None, shrinking=False)
    wrong = [one for one in simulation.checks if not one.holds and one.name not in NOT_SO_SMALL]
    assert wrong == [], simulation.text(Path("store"))
    if rounds < load_scenario(name).rounds:
        assert "accuracy_min" not in {one.name for one in simulation.checks}


def test_another_process_with_another_hash_seed_gives_the_same_trace(tmp_path: Path) -> None:
    told = []
    for hash_seed in ("1", "2"):
        words = ["simulate", "storm", "--nodes", "5", "--rounds", "3", "--seed", "5", "--json"]
        command = [sys.executable, "-m", "fednode", *words, "--store", str(tmp_path / hash_seed)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        told.append(json.loads(done.stdout))
    same = ("trace", "events", "virtual_s", "accuracy", "faults", "checks", "elections")
    assert {key: told[0][key] for key in same} == {key: told[1][key] for key in same}
    assert told[0]["faults"]
