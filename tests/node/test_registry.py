"""The registry and predictions of a whole node, whose run of two rounds is simulated."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import trio
from safetensors import safe_open
from safetensors.numpy import load

from node.api.service.service import ModelFile, NotFound, Wanted
from node.data.shares import digits_split
from node.node import Node
from node.record.predict import PREDICTION_SLOTS
from node.seams import TaskOutput
from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId
from simulations.nodes.simulated_node import live
from simulations.simulate import CONFIGURATION
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

Json = dict[str, Any]
Work = Callable[[Node, str], Awaitable[None]]


def with_a_run(tmp_path: Path, work: Work) -> None:
    """Do `work` with a node and the id of its run, digits trained for two rounds."""

    async def main() -> None:
        world = SimulatedWorld(Random(1))
        shared = SharedStore(tmp_path / "store.duckdb")
        paths = digits_split(1).write(tmp_path / "data")
        folder = tmp_path / "node"
        folder.mkdir()
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            node = await nursery.start(live, 0, 1, world, shared, folder)
            await node.service.data_add("digits", str(paths[0]), {})
            await node.service.create_group("alone")
            text = CONFIGURATION.format(seed=1, rounds=2, nodes=1).replace("simulation", "study", 1)
            run = (await node.service.start_run(text, None, None, {}))["run_id"]
            known = node.runs.known[run]
            with trio.fail_after(600):
                await until(lambda: known.driver is not None)
                await known.driver.ended.wait()
            await work(node, run)
            nursery.cancel_scope.cancel()
        shared.close()

    run_deterministically(1, main)


async def whole(file: ModelFile) -> bytes:
    data = b"".join([piece async for piece in file.chunks])
    assert len(data) == file.size
    return data


def say_nothing(output: TaskOutput) -> None:
    assert output.kind


async def answers(judging: Any, say: Callable[[TaskOutput], None] = say_nothing) -> tuple[Json, dict[str, Any]]:
    """What is told of a judging, and the arrays that it predicted."""
    judged = await judging.run(say)
    if judged.predictions is None:
        return judged.told, {}
    with judged.predictions, np.load(judged.predictions, allow_pickle=False) as arrays:
        return judged.told, {name: arrays[name] for name in arrays.files}


# --- the registry ----------------------------------------------------------------------------------------------
def test_models_are_listed_tagged_and_forgotten(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        registry = node.service.registry
        assert [(entry["round"], entry["here"]) for entry in await registry.listed("study")] == [
            (2, True),
            (1, True),
            (0, True),
        ]
        assert await registry.listed(None) == []
        first = await registry.tag("study:1", "reader", "champion")
        assert (first["name"], first["version"], first["aliases"], first["round"]) == ("reader", 1, ["champion"], 1)
        second = await registry.tag("study", "reader", "champion")  # the alias moves
        assert (second["version"], second["aliases"], second["round"]) == (2, ["champion"], 2)
        assert (await registry.find("reader@1"))["aliases"] == []
        again = await registry.tag(f"{run[:8]}:1", "reader", "old")
        assert (again["version"], again["aliases"]) == (1, ["old"])
        assert [entry["version"] for entry in await registry.listed(None)] == [2, 1]

        await registry.untag("reader", "old")
        with pytest.raises(NotFound, match="its aliases: champion"):
            await registry.untag("reader", "old")
        assert await registry.remove("reader") == 2
        assert await registry.listed(None) == []
        for text in ("reader", "reader@champion", "reader@1"):
            with pytest.raises(NotFound):
                await registry.find(text)
        third = await registry.tag("study:0", "reader")
        assert (third["version"], third["aliases"]) == (3, [])  # numbers are not given again
        back = await registry.tag("study", "reader")
        assert (back["version"], back["aliases"]) == (2, [])  # and a model that comes back has its old one

    with_a_run(tmp_path, work)


def test_watchers_hear_of_every_change_and_data_sets_tell_how_many_rows_they_have(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        data = tmp_path / "more.csv"
        data.write_text("age,ward\n1,a\n2,b\n")
        async with aclosing(node.service.events()) as batches:  # type: ignore[type-var]
            await anext(batches)

            async def heard(what: str) -> None:
                with trio.fail_after(60):
                    while {"type": "changed", "what": what} not in await anext(batches):
                        pass

            await node.service.data_add("more", str(data), {})
            await heard("data")
            assert [entry["rows"] for entry in await node.service.data_list()] == [1438, 2]
            await node.service.data_remove("more")
            await heard("data")
            await node.service.registry.tag("study:1", "reader", "champion")
            await heard("models")
            await node.service.registry.untag("reader", "champion")
            await heard("models")
            await node.service.registry.remove("reader")
            await heard("models")
            await answers(await node.service.predictor.prepare("study", Wanted(data="digits")))
            await heard("models")

    with_a_run(tmp_path, work)


def test_tags_at_the_same_moment_get_a_version_each(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        registry, made = node.service.registry, list[int]()

        async def tag(text: str) -> None:
            made.append((await registry.tag(text, "reader", f"of-{text[-1]}"))["version"])

        async with trio.open_nursery() as nursery:
            for text in ["study:0", "study:1", "study:2"] * 3:
                nursery.start_soon(tag, text)
        assert sorted(made) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
        for number in range(3):
            assert (await registry.find(f"reader@of-{number}"))["round"] == number

    with_a_run(tmp_path, work)


def test_a_tag_that_the_disk_refuses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(node: Node, run: str) -> None:
        async def refuse() -> None:
            raise FednodeError("The disk is full", remedy="make room")

        await node.record.flush()
        with monkeypatch.context() as patch:
            patch.setattr(node.record, "flush", refuse)
            with pytest.raises(FednodeError, match="The disk is full"):
                await node.service.registry.tag("study", "reader")
            assert (await node.service.registry.find("study"))["round"] == 2  # reading goes on
        assert await node.service.registry.listed(None) == []

    with_a_run(tmp_path, work)


@pytest.mark.parametrize(
    ("name", "alias"), [("../x", ""), ("", ""), ("a b", ""), ("reader", "1"), ("reader", "newest")]
)
def test_what_is_no_name_makes_no_entry(tmp_path: Path, name: str, alias: str) -> None:
    async def work(node: Node, run: str) -> None:
        with pytest.raises(Refused) as refused:
            await node.service.registry.tag("study", name, alias)
        assert refused.value.code in ("bad-name", "bad-alias")
        assert await node.service.registry.listed(None) == []

    with_a_run(tmp_path, work)


def test_a_file_says_where_it_comes_from(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        registry = node.service.registry
        await registry.tag("study:1", "reader", "champion")
        path = tmp_path / "model.safetensors"
        path.write_bytes(await whole(await registry.file("reader@champion")))
        with safe_open(path, "np") as file:
            metadata = file.metadata()
        shown = await registry.show("reader")
        assert metadata == {
            "fednode_run_id": run,
            "fednode_run": "study",
            "fednode_round": "1",
            "fednode_checkpoint": shown["checkpoint"],
            "fednode_model": shown["model"],
            "fednode_group": shown["lineage"]["group_id"],
            "fednode_task": "digits",
            "fednode_name": "reader",
            "fednode_version": "1",
            "fednode_aliases": "champion",
            "fednode_schema_id": metadata["fednode_schema_id"],
        }
        plain = await whole(await node.service.model_file(run, 1))
        tensors = load(path.read_bytes())
        assert tensors.keys() == load(plain).keys()
        schema = await registry.schema("reader")
        assert schema["schema_id"] == metadata["fednode_schema_id"]
        assert {tensor["name"]: tuple(tensor["shape"]) for tensor in schema["tensors"]} == {
            name: array.shape for name, array in tensors.items()
        }
        for name, array in load(plain).items():
            np.testing.assert_array_equal(array, tensors[name])

    with_a_run(tmp_path, work)


def test_a_model_whose_blobs_are_gone_says_so(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        registry = node.service.registry
        await registry.tag("study:1", "reader")
        model = await registry.find("study:1")
        await node.disk.delete_blob(BlobId(model["model"]))
        assert [entry["here"] for entry in await registry.listed("study")] == [True, False, True]
        assert (await registry.show("reader"))["here"] is False
        wanted = Wanted(data="digits")
        for ask in (
            lambda: registry.file("reader"),
            lambda: registry.schema("study:1"),
            lambda: registry.tag("study:1", "reader", "champion"),
            lambda: node.service.predictor.prepare("reader", wanted),
        ):
            with pytest.raises(NotFound, match="The model of round 1 of study is not here any more") as refused:
                await ask()
            assert "fednode model list study" in refused.value.remedy

    with_a_run(tmp_path, work)


# --- evaluation and predictions --------------------------------------------------------------------------------
def test_an_evaluation_on_the_runs_own_data_agrees_with_the_runs_report(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        for round_number in range(3):
            model = await node.service.registry.find(f"study:{round_number}")
            judging = await node.service.predictor.prepare(f"study:{round_number}", Wanted(data="digits"))
            told, _ = await answers(judging)
            assert (told["rows"], told["samples"]) == ("held-out", 288)
            assert told["metrics"]["accuracy"] == pytest.approx(model["accuracy"], abs=1e-12)
            assert told["metrics"]["loss"] == pytest.approx(model["loss"], abs=1e-12)
        shown = await node.service.registry.show("study")
        assert [entry["metrics"] for entry in shown["evaluations"]] == [told["metrics"]]
        assert shown["evaluations"][0]["data_fingerprint"] == shown["lineage"]["data"][0]["data_fingerprint"]
        assert len(await node.record.query("evaluations", run_id=run)) == 3

    with_a_run(tmp_path, work)


def test_predictions_are_in_the_order_of_the_data(tmp_path: Path) -> None:
    """A file that nobody registered: every row, each with what the model says of it alone."""

    async def work(node: Node, run: str) -> None:
        with np.load(next((tmp_path / "data").glob("*.npz"))) as digits:
            x, y = digits["x"][:1500], digits["y"][:1500]
        np.savez(tmp_path / "new.npz", x=x, y=y)
        wanted = Wanted(path=str(tmp_path / "new.npz"), predict=True)
        told, arrays = await answers(await node.service.predictor.prepare("study", wanted))
        assert (told["rows"], told["predicted"], told["samples"]) == ("all", len(y), len(y))
        assert (arrays["digit"] == y).mean() == pytest.approx(told["metrics"]["accuracy"])
        np.testing.assert_allclose(arrays["probability"].sum(1), 1, rtol=1e-5)
        np.savez(tmp_path / "turned.npz", x=x[::-1])  # without labels, which no prediction needs
        wanted = Wanted(path=str(tmp_path / "turned.npz"), predict=True, evaluate=False)
        told, turned = await answers(await node.service.predictor.prepare("study", wanted))
        assert "metrics" not in told
        np.testing.assert_array_equal(turned["digit"], arrays["digit"][::-1])
        wanted = Wanted(
            path=str(tmp_path / "new.npz"), predict=True, rows="held-out", options={"evaluation_share": 0.5}
        )
        told, half = await answers(await node.service.predictor.prepare("study", wanted))
        assert (told["samples"], len(half["digit"])) == (len(y) // 2, len(y) // 2)

    with_a_run(tmp_path, work)


def test_what_cannot_be_judged_says_why(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        predictor = node.service.predictor
        with pytest.raises(Refused) as refused:
            await predictor.prepare("study", Wanted())
        assert refused.value.code == "bad-data"
        with pytest.raises(Refused, match="No data set is called 'else'"):
            await predictor.prepare("study", Wanted(data="else"))
        task = tmp_path / "task.py"
        task.write_text("raise SystemExit")
        with pytest.raises(Refused, match=r"is not the run's task file: .* built in: digits"):
            await predictor.prepare("study", Wanted(data="digits", task=str(task)))
        missing = await predictor.prepare("study", Wanted(path=str(tmp_path / "missing.npz")))
        with pytest.raises(Refused, match="There is nothing at"):
            await missing.run(say_nothing)
        nothing_held_out = Wanted(data="digits", options={"evaluation_share": 0.0})
        with pytest.raises(Refused, match="holds no rows of this data out") as none:
            await (await predictor.prepare("study", nothing_held_out)).run(say_nothing)
        assert "--rows all" in none.value.remedy
        assert await node.record.query("evaluations", run_id=run) == []

    with_a_run(tmp_path, work)


def test_predictions_take_turns(tmp_path: Path) -> None:
    async def work(node: Node, run: str) -> None:
        said: list[str] = []
        judgings = [await node.service.predictor.prepare("study", Wanted(data="digits")) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for judging in judgings:
                nursery.start_soon(judging.run, lambda output: said.append(output.text))
        assert said.count("waiting for another prediction of this node to end") == len(judgings) - PREDICTION_SLOTS
        await node.service.registry.find("study")
        assert len(await node.record.query("evaluations", run_id=run)) == 2

    with_a_run(tmp_path, work)
