"""Scenario files: what is wrong with one is named by key, with what was given and what is allowed."""

from pathlib import Path

import pytest

from protocol.errors import Refused
from simulations.plan.faults import AGGREGATOR, cohorts_of, plan_faults
from simulations.plan.read import ScenarioError, find_scenario, load_scenario, read_scenario, shipped_names


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        read_scenario(text, "a test")
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodes = 3", "title is missing"),
        ('title = "x"\nnodes = 0', "nodes is 0; allowed is greater than or equal to 1"),
        ('title = "x"\nnode = 3', "node is not a known key; did you mean nodes?"),
        ('title = "x"\n[network]\nlatency_s = "slow"', 'network.latency_s is "slow"; allowed is a valid number'),
        ('title = "x"\n[[fault]]\nat_s = 1', "fault 1: kind is missing"),
        ('title = "x"\n[[fault]]\nkind = "kill"', "fault 1: give one of at_s, phase and per_minute"),
        ('title = "x"\n[[fault]]\nkind = "kill"\nat_s = 1\nfor = 3', "fault 1: for is not a known key"),
        ('title = "x"\n[[fault]]\nkind = "kill"\nper_minute = 1', "fault 1: every_s and per_minute need until_s"),
        ('title = "x"\n[[cohort]]\nname = "a"', "cohort 1: give either count or share"),
        (
            'title = "x"\nnodes = 3\n[[fault]]\nkind = "kill"\nat_s = 1\nnode = "node-3"',
            'fault 1: node is "node-3"; the nodes are node-0 to node-2',
        ),
        (
            'title = "x"\nnodes = 3\n[[cohort]]\nname = "a"\ncount = 4',
            "the cohorts count 4 nodes; the scenario has 3",
        ),
        (
            'title = "x"\n[[fault]]\nkind = "kill"\nat_s = 9\nevery_s = 1\nuntil_s = 5',
            "fault 1: until_s is 5, before at_s, 9: it would never happen",
        ),
        ('title = "x"\n[run.training]\nround = 3', "run.training.round is not a known key; did you mean"),
        ('title = "x"\nrun_file = "none.toml"', 'run_file is "none.toml", which cannot be read'),
        ("title = ", "it is not TOML"),
    ],
)
def test_an_error_names_the_key_what_was_given_and_what_is_allowed(text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(text)), problems(text)


def test_a_choice_is_told_with_all_that_is_allowed() -> None:
    (problem,) = problems('title = "x"\n[[fault]]\nkind = "explode"\nat_s = 1')
    assert problem.startswith("fault 1: kind is \"explode\"; allowed is 'kill', 'freeze'")


def test_nodes_that_nobody_knows_are_named() -> None:
    (problem,) = problems('title = "x"\n[[fault]]\nkind = "kill"\nat_s = 1\nnode = "slow"')
    assert problem.startswith('fault 1: node is "slow"; allowed is a node such as node-3, or one of: aggregator')


def test_all_errors_are_told_at_once() -> None:
    assert len(problems('nodes = 0\n[[fault]]\nkind = "kill"\n[checks]\naccuracy_min = 2')) == 4


def test_a_referenced_configuration_counts_and_the_embedded_one_before_it(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('[task]\nname = "digits"\n[data]\nname = "digits"\n[training]\nrounds = 7\n')
    (tmp_path / "one.toml").write_text('title = "x"\nrun_file = "study.toml"\n')
    assert load_scenario(str(tmp_path / "one.toml")).rounds == 7
    assert load_scenario(str(tmp_path / "one.toml"), {"training.rounds": 2}).rounds == 2


@pytest.mark.parametrize(
    ("run_file", "beside", "expected"),
    [
        ("rounds = ", "", ["study.toml: it is not TOML: Invalid value (at line 1"]),
        ("rouns = 3\n", "", ["study.toml: rouns is not a known key"]),
        ("rouns = 3\n", "[run]\nepoch = 2\n", ["study.toml: rouns is not", "run.epoch is not a known key"]),
    ],
)
def test_what_is_wrong_in_a_referenced_configuration_is_told_with_its_file(
    tmp_path: Path, run_file: str, beside: str, expected: list[str]
) -> None:
    (tmp_path / "study.toml").write_text(run_file + '[task]\nname = "digits"\n[data]\nname = "digits"\n')
    (tmp_path / "one.toml").write_text('title = "x"\nrun_file = "study.toml"\n' + beside)
    with pytest.raises(ScenarioError) as error:
        load_scenario(str(tmp_path / "one.toml"))
    assert len(error.value.problems) == len(expected)
    assert all(problem.startswith(begins) for problem, begins in zip(error.value.problems, expected, strict=True))


def test_a_misspelt_scenario_is_guessed() -> None:
    with pytest.raises(Refused, match="did you mean churn"):
        find_scenario("chrun")


def test_every_shipped_scenario_is_valid_and_has_its_page() -> None:
    names = shipped_names()
    assert {"quiet-week", "aggregator-lost", "rolling-restarts", "flapping-links", "split-brain"} <= set(names)
    assert {"churn", "stragglers", "liars", "mass-join", "slow-disk"} <= set(names)
    pages = Path(__file__).parents[2] / "docs" / "scenarios"
    for name in names:
        assert load_scenario(name).scenario.title
        assert f"fednode simulate {name}" in (pages / f"{name}.md").read_text(encoding="utf-8")


def test_faults_are_drawn_beforehand_each_from_its_own_source() -> None:
    read = read_scenario(
        'title = "x"\nnodes = 9\n[[fault]]\nkind = "kill"\nper_minute = 6\nuntil_s = 60\nfor_s = [1, 5]\n'
        '[[fault]]\nkind = "partition"\nat_s = 5\nminority = 0.4\n'
        '[[fault]]\nkind = "kill"\nnode = "aggregator"\nphase = "proposed"\n[run.training]\nrounds = 3\n',
        "x",
    )
    planned = plan_faults(read.scenario, 9, 3, 7)
    assert planned == plan_faults(read.scenario, 9, 3, 7)
    assert planned != plan_faults(read.scenario, 9, 3, 8)
    assert [fault.round for fault in planned if fault.nodes == (AGGREGATOR,)] == [1, 2, 3]
    (partition,) = [fault for fault in planned if fault.kind == "partition"]
    assert len(partition.nodes) == 4
    without = read.scenario.model_copy(update={"fault": (*read.scenario.fault[:1], *read.scenario.fault[:0])})
    assert plan_faults(without, 9, 3, 7) == [fault for fault in planned if fault.at_s and fault.kind == "kill"]


def test_cohorts_are_dealt_from_the_highest_number_down() -> None:
    read = read_scenario('title = "x"\n[[cohort]]\nname = "a"\ncount = 2\n[[cohort]]\nname = "b"\nshare = 0.25\n', "x")
    assert cohorts_of(read.scenario, 8) == {"a": (6, 7), "b": (4, 5)}
