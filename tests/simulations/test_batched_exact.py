"""The same bits three ways: a simulation's trainer, a real worker process, and a plain loop around fednode's SGD."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trio
import trio.testing

from aggregation.codecs.registry import codec_named
from aggregation.tensors.torch_arrays import load_raw, module_parts, module_schema
from aggregation.updates import encode_update
from fednode import Data, Result, Round, Source, Task
from node.seams import InitialModel, TaskSpec, Trainer
from node.tasks.digits import Digits
from node.training.reproducible import derived_seed
from node.training.sgd import Progress, sgd
from node.training.trainer import worker_trainer
from simulations.training.batched import BatchedTraining
from simulations.training.trainer import InProcessTrainer

DEADLINE_S = 120.0
ROUNDS = (1, 2, 5)


@pytest.fixture
def spec(tmp_path: Path) -> TaskSpec:
    draw = np.random.default_rng(5)
    np.savez(tmp_path / "digits.npz", x=draw.integers(0, 17, (75, 64)), y=draw.integers(0, 10, 75))
    return TaskSpec(
        run_id="run",
        node_id="node",
        task="digits",
        task_parameters={"hidden": [24]},
        hyperparameters={"epochs": 3, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.001, "proximal_mu": 0.1},
        codec="fp32",
        data_path=str(tmp_path / "digits.npz"),
        data_options={},
        seed=11,
        draws="the data's fingerprint",
    )


def plain_loop(spec: TaskSpec, directory: Path) -> tuple[InitialModel, list[bytes]]:
    """Nothing but torch, the task and fednode's SGD, on one thread."""
    torch.set_num_threads(1)
    task = Digits(spec.task_parameters)
    data = task.data(Source(Path(str(spec.data_path))))
    torch.manual_seed(derived_seed(spec.seed, "model"))
    model = task.model()
    schema, first = module_schema(model), b"".join(module_parts(model, module_schema(model)))
    updates, base = [], first

    def learn(task: Task, model: torch.nn.Module, data: Data, this_round: Round) -> Result:
        return sgd(task, model, data, this_round, Progress())

    for number in ROUNDS:
        load_raw(model, schema, base)
        seed = derived_seed(spec.seed, spec.draws, number)
        task.train(model, data, Round(number, seed, spec.hyperparameters, directory, learn))
        updates.append(encode_update(schema, base, b"".join(module_parts(model, schema)), codec_named(spec.codec)))
        base = following(base, updates[-1])
    return InitialModel(schema.to_bytes(), first), updates


def following(base: bytes, update: bytes) -> bytes:
    """The base of the next round, as if there were no other nodes."""
    return (np.frombuffer(base, "<f4") + np.frombuffer(update, "<f4")).tobytes()


async def through(trainer: Trainer, spec: TaskSpec) -> tuple[InitialModel, list[bytes]]:
    session = await trainer.open(spec, lambda output: None)
    first = await session.initial_model()
    updates, base = [], first.model
    for number in ROUNDS:
        update = (await session.train(number, first.schema, base)).update
        updates.append(update.read_bytes() if isinstance(update, Path) else update)
        base = following(base, updates[-1])
    await session.close()
    return first, updates


def test_a_simulation_a_worker_process_and_a_plain_loop_give_the_same_bits(spec, tmp_path):
    (tmp_path / "simulated").mkdir()
    first, updates = plain_loop(spec, tmp_path)
    assert len(set(updates)) == len(ROUNDS)
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(through, InProcessTrainer(tmp_path / "simulated"), spec, clock=clock) == (first, updates)

    async def with_processes() -> tuple[InitialModel, list[bytes]]:
        with trio.fail_after(DEADLINE_S):
            async with worker_trainer(tmp_path / "workers") as trainer:
                return await through(trainer, spec)

    assert trio.run(with_processes) == (first, updates)


def test_another_seed_fingerprint_or_round_gives_other_bits(spec, tmp_path):
    _, updates = plain_loop(spec, tmp_path)
    for changed in (replace(spec, seed=12), replace(spec, draws="another")):
        assert plain_loop(changed, tmp_path)[1][0] != updates[0]
    draws = replace(spec, draws="", node_id=spec.draws)  # without a fingerprint the node's name is drawn from
    (tmp_path / "state").mkdir()
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(through, InProcessTrainer(tmp_path / "state"), draws, clock=clock)[1] == updates


def test_a_simulation_with_few_nodes_is_exact_though_it_could_train_together(spec, tmp_path):
    (tmp_path / "state").mkdir()
    trainer = InProcessTrainer(tmp_path / "state", together=BatchedTraining())
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(through, trainer, spec, clock=clock) == plain_loop(spec, tmp_path)
