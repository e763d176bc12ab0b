"""What proposing a run would say, asked before: problems by their keys, warnings, and nothing proposed."""

import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from memory_service import serving

from fednode import Client
from node.api.service.service import Asked
from node.cli import cli
from node.run.proposal import templates
from protocol.errors import Refused
from protocol.manifest.keys import KEYS
from protocol.manifest.read import read_configuration
from simulations.nodes.simulated_node import live
from simulations.world.deterministic import run_deterministically
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

GOOD = 'name = "first"\n[task]\nname = "digits"\n[data]\nname = "digits"\n[roster]\nnodes_min = 1\n'


def with_a_node(tmp_path: Path, act: Callable[[Any], Awaitable[None]]) -> None:
    """Let `act` have a simulated node."""

    async def main() -> None:
        world = SimulatedWorld(Random(1))
        shared = SharedStore(tmp_path / "store.duckdb")
        (tmp_path / "node").mkdir()
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            await act(await nursery.start(live, 0, 1, world, shared, tmp_path / "node"))
            nursery.cancel_scope.cancel()
        shared.close()

    run_deterministically(1, main)


def keys(told: dict[str, Any]) -> list[str]:
    return [problem["key"] for problem in told["problems"]]


def test_everything_that_proposing_refuses_is_said_with_its_key(tmp_path: Path) -> None:
    async def act(node: Any) -> None:
        check = node.service.proposals.check
        assert keys(await check(Asked(config=GOOD))) == ["group"]
        await node.service.create_group("alone")
        told = await check(Asked(config=GOOD + '[training]\nlearning_rate = -1\nrounds = "x"\n'))
        assert sorted(keys(told)) == ["training.learning_rate", "training.rounds"]
        assert "training.rounds is" in str(told["problems"])
        assert told["manifest"] is None
        assert keys(await check(Asked(config=f'parent = "x"\n{GOOD}roles = {{ z = "observer" }}\n'))) == [
            "roster.roles",
            "parent",
        ]
        missing = GOOD.replace('name = "digits"', 'path = "nowhere.py"', 1)
        assert keys(await check(Asked(config=missing, source=str(tmp_path / "study.toml")))) == ["task.path"]
        assert keys(await check(Asked(config="name = "))) == [""]
        assert not node.runs.known

    with_a_node(tmp_path, act)


def test_what_is_fine_comes_with_its_manifest_and_with_what_may_go_wrong(tmp_path: Path) -> None:
    async def act(node: Any) -> None:
        await node.service.create_group("alone")
        asked = Asked(config=GOOD.replace("nodes_min = 1", "nodes_min = 5"), overrides={"comm_round": 3})
        told = await node.service.proposals.check(asked)
        assert told["problems"] == []
        assert told["manifest"]["training"]["rounds"] == 3
        assert told["taken_as"] == ["comm_round taken as training.rounds"]
        assert "this node has no data set 'digits'" in told["warnings"][0]
        assert told["warnings"][1] == "it waits for 5 nodes, and alone has 1"
        before = node.groups.places[next(iter(node.groups.places))].log.heads()
        await node.service.proposals.check(Asked(config=GOOD))
        assert node.groups.places[next(iter(node.groups.places))].log.heads() == before
        await node.service.start_run(GOOD, None, None, {})
        assert "is there already" in (await node.service.proposals.check(Asked(config=GOOD)))["warnings"][-1]

    with_a_node(tmp_path, act)


def test_how_many_liars_the_rule_bears_is_said_before_it_is_proposed(tmp_path: Path) -> None:
    async def act(node: Any) -> None:
        await node.service.create_group("alone")
        text = GOOD.replace("nodes_min = 1", "nodes_min = 3") + '[aggregation]\nrule = "trimmed_mean"\n'
        told = await node.service.proposals.check(Asked(config=text))
        assert told["problems"] == []
        assert told["how"] == "trimmed_mean 0.2 · bf16 · no audit · liars borne: none of 3"
        assert "bears no liar" in told["warnings"][-1]
        run = await node.service.start_run(text, None, None, {})
        assert "bears no liar" in run["taken_as"][-1]
        assert (await node.service.inbox.proposal(run["run_id"]))["how"] == "trimmed_mean 0.2 · bf16 · no audit"
        enough = await node.service.proposals.check(Asked(config=text, overrides={"aggregation.byzantine_share": 0.34}))
        assert not any("liar" in said for said in enough["warnings"])

    with_a_node(tmp_path, act)


def test_what_is_found_fault_with_is_refused_by_proposing(tmp_path: Path) -> None:
    async def act(node: Any) -> None:
        with pytest.raises(Refused) as refused:
            await node.service.start_run(GOOD, None, None, {})
        assert refused.value.code == "no-such-group"
        await node.service.create_group("alone")
        task = tmp_path / "my_task.py"
        task.write_text("")
        text = GOOD.replace('name = "digits"', f'path = "{task.name}"', 1)
        asked = Asked(config=text, source=str(tmp_path / "study.toml"))
        manifest = (await node.service.proposals.check(asked))["manifest"]
        assert not node.task_files._paths  # a check leaves nothing behind
        run = await node.service.start_run(text, str(tmp_path / "study.toml"), None, {})
        assert node.runs.known[run["run_id"]].manifest.task.hash == manifest["task"]["hash"]
        assert node.task_files._paths == {manifest["task"]["hash"]: str(task)}

    with_a_node(tmp_path, act)


def test_templates_are_valid_and_the_keys_are_all() -> None:
    told = templates()
    assert {each["task"] for each in told["templates"]} == {"digits", "tabular"}
    for each in told["templates"]:
        assert read_configuration(each["config"]).configuration.task.name == each["task"]
        assert tomllib.loads(each["config"])["training"]["learning_rate"] == 0.1
    assert [each["key"] for each in told["keys"]] == list(KEYS)


def test_by_http_and_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNODE_HOME", str(tmp_path / "home"))
    with serving(tmp_path / "home") as service:
        client = Client(service.home)
        assert client.check_run(GOOD)["problems"] == []
        assert client._get("templates")["templates"]
        command = CliRunner().invoke(cli, ["run", "check", "-"], input=GOOD)
        assert command.exit_code == 0
        assert "can be proposed" in command.output
        assert "But: nobody else is here" in command.output
        command = CliRunner().invoke(cli, ["run", "check", "-", "--set", "training.rounds=0"], input=GOOD)
        assert command.exit_code == 4
        assert command.stdout.startswith("It cannot be proposed:\n  training.rounds is 0; allowed is")
        file = tmp_path / "study.toml"
        file.write_text(GOOD + "\n]")
        command = CliRunner().invoke(cli, ["run", "check", str(file)])
        assert command.exit_code == 4
        assert command.stdout.startswith(f"{file} cannot be proposed:\n  it is not TOML: Invalid statement (at line ")
        assert not service.all_runs
