"""What a task logs in a simulated node: the example of docs/writing-tasks.md, its artifacts and rows."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import trio

from node.data.shares import digits_split
from simulations.nodes.simulated_node import live
from simulations.simulate import CONFIGURATION
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

DOCUMENT = Path(__file__).parents[2] / "docs" / "writing-tasks.md"
ROUNDS = 2


async def played(base: Path) -> dict[str, Any]:
    """What one node has recorded of a run of the example."""
    base.mkdir()
    [source] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (base / "centroids.py").write_text(source)
    world, shared = SimulatedWorld(Random(1)), SharedStore()
    [path] = digits_split(1).write(base / "data")
    (base / "node").mkdir()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        node = await nursery.start(live, 0, 1, world, shared, base / "node")
        await node.service.data_add("digits", str(path), {})
        await node.service.create_group("alone")
        text = CONFIGURATION.format(seed=1, rounds=ROUNDS, nodes=1)
        text = text.replace('name = "digits"', f'path = "{base / "centroids.py"}"', 1)
        run = (await node.service.start_run(text, None, None, {}))["run_id"]
        known = node.runs.known[run]
        with trio.fail_after(600):
            await until(lambda: known.driver is not None)
            await known.driver.ended.wait()
        found: dict[str, Any] = {"artifacts": await node.service.artifacts.listed(run)}
        for entry in found["artifacts"]:
            file = await node.service.artifacts.file(run, entry["node_id"], entry["name"])
            found[entry["name"]] = b"".join([piece async for piece in file.pieces])
        for table, what in {
            "node_parameters": "key, value, type",
            "spans": "round, name, seconds, started_at",
            "metrics": "scope, split, key, class, round, epoch, step, value",
        }.items():
            rows = await node.service.sql(f"select {what} from {table} where run_id = '{run}' order by all", 10_000)
            found[table] = [tuple(row) for row in rows[1]]
        nursery.cancel_scope.cancel()
    shared.close()
    return found


def test_a_simulated_node_records_what_a_real_one_does_and_twice_the_same(tmp_path: Path) -> None:
    first, again = (run_deterministically(1, lambda name=name: played(tmp_path / name)) for name in ("a", "b"))
    kept = [(entry["name"], entry["kind"], entry["round"]) for entry in first["artifacts"]]
    assert kept == [("evaluation/confusion.csv", "text", ROUNDS), ("means.json", "json", ROUNDS)]
    assert len(json.loads(first["means.json"])) == 10
    assert {key for key, *_ in first["node_parameters"]} == {"rows", "classes"}
    own = {row for row in first["spans"] if row[1] == "task.classify"}
    assert own
    assert {row[2] for row in own} == {0.0}  # computing takes no virtual time
    labels = {row[3] for row in first["metrics"] if row[:3] == ("global", "eval", "recall")}
    assert labels == {str(digit) for digit in range(10)}
    live_steps = {row[4:7] for row in first["metrics"] if row[:3] == ("local", "train", "distance")}
    assert live_steps == {(number, epoch, epoch) for number in (1, 2) for epoch in (1, 2)}
    same = first.keys() - {"artifacts"}
    assert {key: first[key] for key in same} == {key: again[key] for key in same}
