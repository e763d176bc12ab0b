"""Training simulated nodes together: the results of each alone within float tolerance, and alone where it must be."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from node.seams import EvaluateResult, InitialModel, TaskOutput, TaskSpec, TrainerFailed, TrainResult
from simulations.training import stacked
from simulations.training.batched import BatchedTraining
from simulations.training.trainer import InProcessTrainer

TASK = """
import fednode, numpy as np, torch
from torch import nn

class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(5, 5), nn.Linear(5, 5, bias=False)
        self.other.weight = self.one.weight
        self.still = nn.Parameter(torch.ones(5), requires_grad=False)

    def forward(self, x):
        return self.other(torch.tanh(self.one(x))) * self.still

class Fit(fednode.Task):
    def model(self):
        p = self.parameters
        last = nn.Linear(p["hidden"], 3)
        first = [_Twice()] if p.get("tied") else []
        return nn.Sequential(*first, nn.Linear(5, p["hidden"]), nn.Tanh(), last).to(getattr(torch, p["dtype"]))

    def data(self, source):
        with np.load(source.path) as file:
            x = torch.from_numpy(file["x"]).to(getattr(torch, self.parameters["dtype"]))
            return fednode.Data.split((x, torch.from_numpy(file["y"])), 0.2)

    def loss(self, model, batch):
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    def metrics(self, model, batch):
        x, y = batch
        return {"accuracy": float((model(x).argmax(1) == y).float().mean())}
"""

PARAMETERS = {"hidden": 4, "dtype": "float32"}

Said = list[TaskOutput]


def write_nodes(folder: Path, rows: list[int], source: str = TASK, **changes: Any) -> list[TaskSpec]:
    """A spec for each node, with so many rows of data."""
    (folder / "fit_task.py").write_text(source)
    specs = []
    for number, count in enumerate(rows):
        draw = np.random.default_rng(number)
        np.savez(
            folder / f"{number}.npz", x=draw.standard_normal((count, 5)).astype("f4"), y=draw.integers(0, 3, count)
        )
        spec = TaskSpec(
            run_id="run",
            node_id=f"node-{number}",
            task=str(folder / "fit_task.py"),
            task_parameters=PARAMETERS,
            hyperparameters={"epochs": 2, "batch_size": 8},
            codec="fp32",
            data_path=str(folder / f"{number}.npz"),
            data_options={},
            seed=3,
        )
        specs.append(replace(spec, **changes))
    return specs


class Results:
    """What the nodes of one simulation trained, found and said, by round and node."""

    def __init__(self) -> None:
        self.first: InitialModel | None = None
        self.trained: dict[tuple[int, int], TrainResult | TrainerFailed] = {}
        self.found: dict[tuple[int, int], EvaluateResult | TrainerFailed | None] = {}
        self.said: dict[int, Said] = {}
        self.virtual_s = 0.0

    def metrics(self, node: int) -> list[tuple[int, int, int]]:
        return [(o.round, o.epoch, o.step) for o in self.said[node] if o.kind == "metric"]

    def logs(self) -> list[str]:
        return [output.text for said in self.said.values() for output in said if output.kind == "log"]


def play(specs: list[TaskSpec], together: BatchedTraining | None, rounds: int = 2, arrive_s: float = 0.0) -> Results:
    """All nodes train and evaluate round after round, each from what is made of the first node's update."""
    results = Results()

    async def main() -> None:
        with TemporaryDirectory() as folder:
            sessions = []
            for number, spec in enumerate(specs):
                Path(folder, str(number)).mkdir()
                results.said[number] = []
                trainer = InProcessTrainer(Path(folder, str(number)), 1000.0, together)
                sessions.append(await trainer.open(spec, results.said[number].append))
            results.first = await sessions[0].initial_model()
            schema, base = results.first.schema, results.first.model

            async def one(node: int, round_number: int) -> None:
                await trio.sleep(arrive_s * ((node * 7 + round_number) % 5))  # virtual time: nodes arrive apart
                for into, call in (
                    (results.trained, sessions[node].train),
                    (results.found, sessions[node].evaluate),
                ):
                    try:
                        into[round_number, node] = await call(round_number, schema, base)
                    except TrainerFailed as failure:
                        into[round_number, node] = failure

            for round_number in range(1, rounds + 1):
                async with trio.open_nursery() as nursery:
                    for node in range(len(specs)):
                        nursery.start_soon(one, node, round_number)
                base = bytes(np.frombuffer(base, "u1").copy())  # another object, as other nodes' bytes are
            results.virtual_s = trio.current_time()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return results


def assert_close(one: Results, other: Results) -> None:
    assert one.found == other.found
    assert one.trained.keys() == other.trained.keys()
    for key, alone in one.trained.items():
        joint = other.trained[key]
        assert isinstance(alone, TrainResult)
        assert isinstance(joint, TrainResult)
        assert (alone.samples, alone.steps) == (joint.samples, joint.steps)
        assert joint.metrics == pytest.approx(alone.metrics, rel=1e-4, abs=1e-6)
        expected, found = (np.frombuffer(bytes_of(result), "<f4") for result in (alone, joint))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    for node, said in one.said.items():
        assert other.metrics(node) == one.metrics(node)
        assert [o for o in said if o.kind != "metric"] == []


def bytes_of(result: TrainResult) -> bytes:
    assert isinstance(result.update, bytes)
    return result.update


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes were in each stack that was trained."""
    return watch_stacks(monkeypatch)


def watch_stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    trained: list[int] = []
    honest: Callable[..., Any] = stacked.stacked_sgd

    def counted(gradients: Any, stacks: Any, members: Any, witness: Any) -> Any:
        learned = honest(gradients, stacks, members, witness)
        trained.append(len(members))
        return learned

    monkeypatch.setattr(stacked, "stacked_sgd", counted)
    return trained


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(2, 60), min_size=2, max_size=7),
    hidden=st.integers(1, 6),
    tied=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    training=st.fixed_dictionaries(
        {"epochs": st.integers(1, 3), "batch_size": st.integers(0, 20)},
        optional={
            "momentum": st.just(0.9),
            "weight_decay": st.just(0.01),
            "proximal_mu": st.just(0.1),
            "learning_rate": st.sampled_from([0.01, 0.2]),
        },
    ),
    optimizer=st.sampled_from(["sgd", "sgd", "adam"]),
)
def test_together_is_alone_within_tolerance(rows, hidden, tied, dtype, training, optimizer):
    if optimizer == "adam":  # divides by the root of squared gradients, which magnifies the noise of tiny ones
        training = {**training, "optimizer": "adam", "learning_rate": 0.001}
    elif "momentum" in training:  # in steps ten times as long small batches diverge, and magnify any noise
        training = {**training, "learning_rate": 0.01}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        stacks = watch_stacks(patch)
        specs = write_nodes(
            Path(folder),
            rows,
            hyperparameters=training,
            task_parameters={"hidden": hidden, "dtype": dtype, "tied": tied},
        )
        joint = play(specs, BatchedTraining(together_min=2))
        assert sum(stacks) == 2 * len(rows)
        assert_close(play(specs, None), joint)


def test_nodes_of_very_different_sizes_are_trained_in_several_stacks(tmp_path, monkeypatch, stacks):
    monkeypatch.setattr("simulations.training.batched.WASTED_PRODUCTS_MAX", 1000)
    specs = write_nodes(tmp_path, [50, 8, 7, 49, 48, 6], hyperparameters={"epochs": 2, "batch_size": 0})
    joint = play(specs, BatchedTraining(together_min=2))
    assert len(stacks) > 2
    assert_close(play(specs, None), joint)


def test_those_that_come_before_the_first_is_due_are_trained_with_it(tmp_path, stacks):
    specs = write_nodes(tmp_path, [40] * 10)
    joint = play(specs, BatchedTraining(together_min=2), rounds=1, arrive_s=0.02)
    # Every fifth of a tenth of a second two nodes come, and 2 × 32 samples take 0.064 s.
    assert stacks == [8, 2]
    alone = play(specs, None, rounds=1, arrive_s=0.02)
    assert_close(alone, joint)
    assert joint.virtual_s == pytest.approx(alone.virtual_s)


def test_too_few_are_trained_alone_with_the_same_bits(tmp_path, stacks):
    specs = write_nodes(tmp_path, [10, 20, 30])
    joint, alone = play(specs, BatchedTraining(together_min=4)), play(specs, None)
    assert stacks == []
    assert joint.trained == alone.trained
    assert joint.said == alone.said


def test_a_node_that_diverges_fails_alone_and_the_others_are_trained(tmp_path, stacks):
    specs = write_nodes(tmp_path, [20] * 5)
    broken = dict(np.load(str(specs[2].data_path)))
    broken["x"][:] = np.nan
    np.savez(str(specs[2].data_path), **broken)
    joint, alone = play(specs, BatchedTraining(together_min=2), rounds=1), play(specs, None, rounds=1)
    assert stacks == [5]
    for results in (joint, alone):
        failure = results.trained.pop((1, 2))
        assert isinstance(failure, TrainerFailed)
        assert failure.what == "The loss became nan in epoch 1, step 1"
        results.found.pop((1, 2))
    assert_close(alone, joint)


CROSS_ENTROPY = "        return nn.functional.cross_entropy(model(x), y)\n"
OF_A_SUM = "        return nn.functional.cross_entropy(model(x), y, reduction='sum') ** 2 / len(x)\n"
WEIGHTED = "        return nn.functional.cross_entropy(model(x), y, weight=torch.tensor([1.0, 5.0, 20.0]))\n"
BRANCHING = "        out = model(x)\n        return out.mean() if out.sum() > 0 else out.square().mean()\n"
PRINTING = "        print('a step')\n" + CROSS_ENTROPY
LOGGING = "        fednode.log({'rows': float(len(x))})\n" + CROSS_ENTROPY
DROPPING = "        return nn.functional.cross_entropy(model(nn.functional.dropout(x, 0.3)), y)\n"
NUMPY_NOISE = "        return nn.functional.cross_entropy(model(x + float(np.random.random())), y)\n"
OWN_WEIGHT = "        return nn.functional.cross_entropy(model(x), y) * self.own\n"
OWN_STATE = TASK.replace(
    "            return fednode.Data", "            self.own = float(len(x))\n            return fednode.Data"
)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (TASK.replace(CROSS_ENTROPY, OF_A_SUM), "not the mean over its rows"),
        (TASK.replace(CROSS_ENTROPY, WEIGHTED), "not the mean over its rows"),
        (TASK.replace(CROSS_ENTROPY, BRANCHING), "data-dependent control flow"),
        (TASK.replace(CROSS_ENTROPY, PRINTING), "says something"),
        (TASK.replace(CROSS_ENTROPY, LOGGING), "says something"),
        (TASK.replace(CROSS_ENTROPY, DROPPING), "random"),
        (TASK.replace(CROSS_ENTROPY, NUMPY_NOISE), ""),
        (TASK.replace("nn.Tanh()", "nn.BatchNorm1d(p['hidden'])"), "not averaged"),
        (TASK.replace("nn.Tanh()", "nn.BatchNorm1d(p['hidden'], track_running_stats=False)"), "more than 1 value"),
        (TASK.replace("    def model", "    local = ('2.*',)\n    def model"), "not averaged"),
    ],
    ids=["sum", "weighted", "branch", "print", "log", "dropout", "numpy", "buffers", "batch-statistics", "local"],
)
def test_what_cannot_go_together_is_trained_alone_with_the_same_bits_and_said_once(tmp_path, source, reason):
    specs = write_nodes(tmp_path, [33, 20, 43, 26, 39], source)
    joint, alone = play(specs, BatchedTraining(together_min=2)), play(specs, None)
    assert joint.trained == alone.trained
    assert joint.found == alone.found
    told = [line for line in joint.logs() if "one after another" in line]
    assert len(told) == 1
    assert reason in told[0]
    assert [joint.metrics(node) for node in joint.said] == [alone.metrics(node) for node in alone.said]


@pytest.mark.parametrize(
    "source",
    [
        OWN_STATE.replace(CROSS_ENTROPY, OWN_WEIGHT),
        TASK + "\n    def train(self, model, data, this_round):\n        return fednode.Result(7, {}, 1)\n",
    ],
    ids=["own-attributes", "own-training"],
)
def test_tasks_that_differ_or_train_themselves_are_never_stacked(tmp_path, source, stacks):
    specs = write_nodes(tmp_path, [33, 20, 43, 26, 39], source)
    joint, alone = play(specs, BatchedTraining(together_min=2)), play(specs, None)
    assert stacks == []
    assert joint.trained == alone.trained
    assert joint.found == alone.found


def test_a_cancelled_training_is_not_done(tmp_path, stacks):
    specs = write_nodes(tmp_path, [20] * 4)

    async def main() -> None:
        together = BatchedTraining(together_min=2)
        sessions = []
        for number, spec in enumerate(specs):
            (tmp_path / f"state-{number}").mkdir()
            trainer = InProcessTrainer(tmp_path / f"state-{number}", 1000.0, together)
            sessions.append(await trainer.open(spec, lambda output: None))
        first = await sessions[0].initial_model()
        async with trio.open_nursery() as nursery:
            for session in sessions[1:]:
                nursery.start_soon(session.train, 1, first.schema, first.model)
            with trio.move_on_after(0.001) as scope:
                await sessions[0].train(1, first.schema, first.model)
            assert scope.cancelled_caught
        assert stacks == [3]
        await sessions[0].train(2, first.schema, first.model)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


HASHES = """
import hashlib, json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from simulations.training.batched import BatchedTraining
from test_batched import bytes_of, play, write_nodes

results = play(write_nodes(Path(sys.argv[3]), [30, 12, 55, 18, 30, 9]), BatchedTraining(together_min=2), 2, 0.001)
digest = hashlib.sha256(b"".join(bytes_of(results.trained[key]) for key in sorted(results.trained)))
print(json.dumps(digest.hexdigest()))
"""


def test_the_same_bits_in_another_process_whatever_python_hashes(tmp_path):
    here = Path(__file__).parent
    found = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", HASHES, str(here.parents[1]), str(here), str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        found.add(json.loads(done.stdout))
    assert len(found) == 1


def test_the_order_of_arrival_changes_no_bits(tmp_path, stacks):
    specs = write_nodes(tmp_path, [30, 12, 55, 18, 30, 9])
    straight = play(specs, BatchedTraining(together_min=2))
    backwards = play(specs[::-1], BatchedTraining(together_min=2))
    count = len(specs)
    for (round_number, node), result in straight.trained.items():
        assert backwards.trained[round_number, count - 1 - node] == result
    assert stacks == [6, 6, 6, 6]
