"""Small scenarios for tests: five nodes, a few rounds, whatever goes wrong."""

from simulations.plan.read import Read, read_scenario
from simulations.play import Played, play

SMALL = """
title = "small"
nodes = 5
virtual_max_s = 3000
strangers = {strangers}
{cohorts}
[run.training]
rounds = {rounds}
epochs = 1
[run.round]
deadline_s = 20
{more}
"""


COHORT = """
[[cohort]]
name = "nodes"
share = 1.0
samples_per_s = 400
"""


def small(more: str = "", rounds: int = 4, strangers: int = 0, cohorts: bool = True) -> Read:
    text = SMALL.format(rounds=rounds, more=more, strangers=strangers, cohorts=COHORT if cohorts else "")
    return read_scenario(text, "small")


def played(more: str = "", rounds: int = 4, seed: int = 1, strangers: int = 0, cohorts: bool = True) -> Played:
    read = small(more, rounds, strangers, cohorts)
    return play(read, read.scenario.nodes, seed)


def fault(kind: str, **keys: object) -> str:
    """An entry of a scenario file."""
    lines = [f"{key} = {value!r}".replace("'", '"').replace("True", "true") for key, value in keys.items()]
    return "\n".join(["[[fault]]", f'kind = "{kind}"', *lines, ""])
