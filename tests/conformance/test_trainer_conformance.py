"""One suite for both trainers: worker processes under the real clock, and in-process ones under a mock clock."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from aggregation.tensors.schema import Schema
from node.seams import TaskOutput, TaskSpec, Trainer, TrainerFailed, TrainResult
from node.training.carried_files import name_next, use_named
from node.training.sgd import Progress
from node.training.trainer import worker_trainer
from node.training.training import LoadedTask
from simulations.training.trainer import InProcessTrainer

DEADLINE_S = 60

# A straight line fitted with numpy alone, so that no worker of these tests imports torch.
LINE = """
import logging
import fednode
import numpy as np

class Line(fednode.Task):
    local = ("own*",)

    def model(self):
        size = self.parameters.get("size", 2)
        w = np.random.standard_normal(size).astype("f4")
        return {"w": w, "seen": np.zeros(1, "i8"), "own.b": np.zeros(1, "f4")}

    def data(self, source):
        with np.load(source.path) as file:
            return fednode.Data.split((file["x"], file["y"]), source.options.get("share", 0.2))

    def arrays(self, model):
        return model

    def load(self, model, arrays):
        return {name: np.array(array) for name, array in arrays.items()}

    def train(self, model, data, this_round):
        x, y = data.train
        print("the first of", len(x))
        logging.getLogger("line").warning("a warning")
        for epoch, step, rows in this_round.batches(len(x)):
            error = x[rows] * model["w"][0] + model["own.b"] - y[rows]
            model["w"][0] -= 0.1 * (error * x[rows]).mean()
            model["own.b"] -= 0.1 * error.mean()
            model["seen"] += 1
            fednode.log({"error": float((error**2).mean())})
        diary = this_round.directory / "diary"
        diary.write_text((diary.read_text() if diary.exists() else "") + f"{this_round.number} ")
        rounds = len(diary.read_text().split())
        return fednode.Result(len(x), {"error": float((error**2).mean()), "rounds": rounds}, step)

    def evaluate(self, model, data):
        if data.evaluation is None:
            return None
        x, y = data.evaluation
        return fednode.Result(len(x), {"error": float(((x * model["w"][0] + model["own.b"] - y) ** 2).mean())})
"""


@contextlib.asynccontextmanager
async def _in_process(directory: Path) -> AsyncIterator[Trainer]:
    yield InProcessTrainer(directory)


@pytest.fixture(params=["processes", "in-process"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Trainer], Awaitable[None]]], None]:
    """Runs an async test with a trainer of one kind or the other."""
    opened = worker_trainer if request.param == "processes" else _in_process

    def runner(test: Callable[[Trainer], Awaitable[None]]) -> None:
        async def main() -> None:
            (tmp_path / "trainer").mkdir()
            async with opened(tmp_path / "trainer") as trainer:
                with trio.fail_after(DEADLINE_S if request.param == "processes" else 10_000_000):
                    await test(trainer)

        clock = trio.testing.MockClock(autojump_threshold=0) if request.param == "in-process" else None
        trio.run(main, clock=clock)

    return runner


@pytest.fixture
def spec(tmp_path: Path) -> TaskSpec:
    return line_spec(tmp_path)


def line_spec(directory: Path, source: str = LINE, **changes: Any) -> TaskSpec:
    (directory / "line_task.py").write_text(source)
    x = np.linspace(-1, 1, 40, dtype=np.float32)
    np.savez(directory / "line.npz", x=x, y=3 * x + 1)
    spec = TaskSpec(
        run_id="run",
        node_id="node",
        task=str(directory / "line_task.py"),
        task_parameters={},
        hyperparameters={"epochs": 2, "batch_size": 8},
        codec="fp32",
        data_path=str(directory / "line.npz"),
        data_options={},
        seed=7,
    )
    return replace(spec, **changes)


def quiet(_: TaskOutput) -> None:
    pass


def content(result: TrainResult) -> bytes:
    return result.update.read_bytes() if isinstance(result.update, Path) else result.update


def test_the_first_model_follows_from_the_seed(run, spec, tmp_path):
    async def test(trainer):
        models = []
        for seed in (7, 7, 8):
            session = await trainer.open(replace(spec, seed=seed, data_path=None), quiet)
            models.append(await session.initial_model())
            await session.close()
        assert models[0] == models[1] != models[2]
        schema = Schema.from_bytes(models[0].schema)
        assert [(tensor.name, tensor.kind) for tensor in schema.tensors] == [
            ("w", "averaged"),
            ("seen", "counter"),
            ("own.b", "local"),
        ]
        assert len(models[0].model) == schema.model_bytes

    run(test)


def test_training_gives_the_bits_of_a_plain_loop(run, spec, tmp_path):
    (tmp_path / "plain").mkdir()
    plain = LoadedTask(spec, tmp_path / "plain", quiet, Progress())
    first = plain.initial_model()
    expected = [plain.train(number, first.schema, first.model).update for number in (1, 2)]

    async def test(trainer):
        session = await trainer.open(spec, quiet)
        updates = [content(await session.train(number, first.schema, first.model)) for number in (1, 2)]
        assert updates == expected
        assert updates[0] != updates[1]

    run(test)


PREDICTING = (
    LINE
    + """
    def predict(self, model, batch):
        return {"value": batch[0] * model["w"][0] + model["own.b"], "x": batch[0]}
"""
)


@pytest.mark.parametrize(("holds_out_all", "rows"), [(False, 8), (True, 40)])
def test_predictions_are_of_the_held_out_rows_or_of_all(run, tmp_path, holds_out_all, rows):
    spec = line_spec(tmp_path, PREDICTING, holds_out_all=holds_out_all)
    schema = Schema.of_arrays(
        {"w": np.zeros(2, "f4"), "seen": np.zeros(1, "i8"), "own.b": np.zeros(1, "f4")}, local=("own*",)
    )
    model = schema.raw_of({"w": np.array([3, 0], "f4"), "seen": np.zeros(1, "i8")})

    async def test(trainer):
        session = await trainer.open(spec, quiet)
        evaluated = await session.evaluate(1, schema.to_bytes(), model)
        predictions = await session.predict(1, schema.to_bytes(), model)
        with np.load(predictions.file, allow_pickle=False) as arrays:
            value, x = arrays["value"], arrays["x"]
        assert predictions.rows == len(value) == evaluated.samples == rows
        np.testing.assert_allclose(value, 3 * x)
        assert (np.diff(x) > 0).all()
        await session.close()
        assert not predictions.file.exists()

    run(test)


def test_a_task_without_predict_says_so(run, spec):
    async def test(trainer):
        session = await trainer.open(spec, quiet)
        schema = Schema.of_arrays(
            {"w": np.zeros(2, "f4"), "seen": np.zeros(1, "i8"), "own.b": np.zeros(1, "f4")}, local=("own*",)
        )
        model = schema.raw_of({"w": np.zeros(2, "f4"), "seen": np.zeros(1, "i8")})
        with pytest.raises(TrainerFailed, match="The task has no predict"):
            await session.predict(1, schema.to_bytes(), model)
        assert await session.evaluate(1, schema.to_bytes(), model)  # the session is as good as before

    run(test)


def test_torch_and_the_default_training_give_the_bits_of_a_plain_loop(run, tmp_path):
    rows = np.random.default_rng(0).integers(0, 17, (60, 64))
    np.savez(tmp_path / "digits.npz", x=rows, y=np.arange(60) % 10)
    spec = TaskSpec(
        "run",
        "node",
        "digits",
        {"hidden": [16]},
        {"epochs": 2, "momentum": 0.9},
        "bf16",
        str(tmp_path / "digits.npz"),
        {},
        1,
    )
    plain = LoadedTask(spec, tmp_path, quiet, Progress())
    first = plain.initial_model()
    expected = plain.train(3, first.schema, first.model)
    measured = plain.evaluate(3, first.schema, first.model)

    async def test(trainer):
        said: list[TaskOutput] = []
        session = await trainer.open(spec, said.append)
        assert await session.initial_model() == first
        result = await session.train(3, first.schema, first.model)
        assert content(result) == expected.update
        assert (result.samples, result.steps, result.metrics) == (48, 4, expected.metrics)
        assert await session.evaluate(3, first.schema, first.model) == measured
        assert [(o.round, o.epoch, o.step) for o in said if o.kind == "metric"] == [(3, 1, 2), (3, 2, 4)]
        assert [o for o in said if o.kind != "metric"] == []

    run(test)


@pytest.mark.parametrize("size", [2, 400_000], ids=["inline", "through-files"])
def test_models_of_any_size_come_as_bytes_or_files(run, spec, tmp_path, size):
    async def test(trainer):
        session = await trainer.open(replace(spec, task_parameters={"size": size}), quiet)
        first = await session.initial_model()
        assert len(first.model) == 4 * size + 8
        file = tmp_path / "base"
        file.write_bytes(first.model)
        as_bytes = content(await session.train(1, first.schema, first.model))
        assert len(as_bytes) == 4 * size + 8
        fresh = await trainer.open(replace(spec, task_parameters={"size": size}, run_id="other"), quiet)
        assert content(await fresh.train(1, first.schema, file)) == as_bytes

    run(test)


def test_what_a_task_says_arrives_with_its_round(run, spec):
    async def test(trainer):
        said: list[TaskOutput] = []
        printed = trio.Event()

        def say(output: TaskOutput) -> None:
            said.append(output)
            if output.kind == "stdout":
                printed.set()

        session = await trainer.open(spec, say)
        first = await session.initial_model()
        result = await session.train(5, first.schema, first.model)
        await printed.wait()
        metrics = [output for output in said if output.kind == "metric"]
        assert [output.step for output in metrics] == list(range(1, 9))
        assert {output.round for output in said} == {5}
        assert metrics[-1].values["error"] == pytest.approx(result.metrics["error"])
        assert [(o.text, o.level) for o in said if o.kind == "log"] == [("line: a warning", "WARNING")]
        assert [o.text for o in said if o.kind == "stdout"] == ["the first of 32"]

    run(test)


def test_an_exception_names_its_line_and_the_session_goes_on(run, tmp_path):
    source = LINE.replace(
        "        x, y = data.train\n", "        x, y = data.train\n        x[100 // self.zero(this_round)]\n"
    )
    source += "\n    def zero(self, this_round):\n        return 10 // (this_round.number - 1)\n"
    line = source.splitlines().index("        return 10 // (this_round.number - 1)") + 1

    async def test(trainer):
        session = await trainer.open(line_spec(tmp_path, source), quiet)
        first = await session.initial_model()
        with pytest.raises(TrainerFailed) as failure:
            await session.train(1, first.schema, first.model)
        assert failure.value.what == (
            f"Training failed at line_task.py, line {line}, in zero: "
            "ZeroDivisionError: integer division or modulo by zero"
        )
        assert "Traceback" in failure.value.traceback
        assert (await session.train(2, first.schema, first.model)).samples == 32

    run(test)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import fednode\n", "line_task.py has no subclass of fednode.Task"),
        (LINE + "\nclass Second(Line):\n    pass\n", "line_task.py has 2 tasks (Line, Second)"),
        ("import fednode\nclass T(fednode.Task):\n    pass\n", "The task T in "),
        (
            "import fednode\nraise SystemExit(3)\n",
            "Loading the task failed at line_task.py, line 2, in <module>: SystemExit: 3",
        ),
        ("import fednode\n\ndef f(:\n", "Loading the task failed at line_task.py, line 3: SyntaxError"),
        (LINE.replace("def data(", "def data_of("), "The task Line in "),
        (LINE.replace("fednode.Data.split(", "("), "The task's data() gave a tuple"),
        (LINE.replace("len(x), {", "0, {"), "The task's result is over 0 samples"),
    ],
)
def test_a_task_that_is_none_is_refused(run, tmp_path, source, reason):
    async def test(trainer):
        async def use_it() -> None:
            session = await trainer.open(line_spec(tmp_path, source), quiet)
            first = await session.initial_model()
            await session.train(1, first.schema, first.model)

        with pytest.raises(TrainerFailed) as failure:
            await use_it()
        assert reason in failure.value.what

    run(test)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "nothing"}, "There is no task 'nothing'"),
        ({"task": "/nowhere/task.py"}, "There is no task file at /nowhere/task.py"),
        (
            {"data_path": "/nowhere/x.npz"},
            "Loading the data failed at line_task.py, line 15, in data: FileNotFoundError",
        ),
        ({"codec": "zip"}, "There is no codec 'zip'"),
    ],
)
def test_what_is_missing_is_named(run, spec, changes, reason):
    async def test(trainer):
        with pytest.raises(TrainerFailed) as failure:
            await trainer.open(replace(spec, **changes), quiet)
        assert failure.value.what.startswith(reason)

    run(test)


def test_without_data_nothing_is_trained_or_evaluated(run, spec):
    async def test(trainer):
        session = await trainer.open(replace(spec, data_path=None), quiet)
        first = await session.initial_model()
        assert await session.evaluate(1, first.schema, first.model) is None
        with pytest.raises(TrainerFailed, match="no data"):
            await session.train(1, first.schema, first.model)
        unheld = await trainer.open(replace(spec, data_options={"share": 0}), quiet)
        assert await unheld.evaluate(1, first.schema, first.model) is None

    run(test)


def test_models_that_do_not_fit_are_refused(run, spec):
    async def test(trainer):
        session = await trainer.open(spec, quiet)
        first = await session.initial_model()
        for schema, model in (
            (first.schema, first.model[:-1]),
            (b"nonsense", first.model),
            (first.schema, Path("/no")),
        ):
            with pytest.raises(TrainerFailed):
                await session.train(1, schema, model)
        assert await session.evaluate(1, first.schema, first.model) is not None

    run(test)


def test_what_a_participant_keeps_outlives_its_session(run, spec):
    async def test(trainer):
        session = await trainer.open(spec, quiet)
        first = await session.initial_model()
        await session.train(1, first.schema, first.model)
        measured = await session.evaluate(1, first.schema, first.model)  # with its own, trained, `own.b`
        await session.close()
        again = await trainer.open(spec, quiet)
        assert await again.evaluate(1, first.schema, first.model) == measured
        assert (await again.train(2, first.schema, first.model)).metrics["rounds"] == 2
        await again.close()
        await trainer.forget(spec.run_id)
        afresh = await trainer.open(spec, quiet)
        assert await afresh.evaluate(1, first.schema, first.model) != measured
        assert (await afresh.train(3, first.schema, first.model)).metrics["rounds"] == 1

    run(test)


def test_a_closed_session_says_so(run, spec):
    async def test(trainer):
        session = await trainer.open(spec, quiet)
        await session.close()
        with pytest.raises(TrainerFailed, match="session is closed"):
            await session.initial_model()
        await session.close()

    run(test)


def test_a_cancelled_call_leaves_the_session_usable(run, tmp_path):
    spec = line_spec(tmp_path, hyperparameters={"epochs": 1000, "batch_size": 8})

    async def test(trainer):
        cancelled = trio.CancelScope()
        session = await trainer.open(spec, lambda output: cancelled.cancel() if output.kind == "metric" else None)
        first = await session.initial_model()
        with cancelled:
            await session.train(1, first.schema, first.model)
            raise AssertionError("it was not cancelled")
        assert await session.evaluate(2, first.schema, first.model) is not None

    run(test)


def test_work_is_offloaded(run):
    async def test(trainer):
        assert await trainer.offload(lambda: 6 * 7) == 42
        with pytest.raises(ZeroDivisionError):
            await trainer.offload(lambda: 1 // 0)

    run(test)


def test_virtual_time_follows_the_samples(spec, tmp_path):
    async def main():
        session = await InProcessTrainer(tmp_path, samples_per_s=10).open(spec, quiet)
        first = await session.initial_model()
        began = trio.current_time()
        await session.train(1, first.schema, first.model)
        assert trio.current_time() - began == pytest.approx(2 * 32 / 10)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(("method", "codec"), [("fedavg", "int8"), ("scaffold", "bf16"), ("scaffold", "top10")])
def test_what_is_carried_counts_once_its_update_was_used(run, tmp_path, method, codec):
    rows = np.random.default_rng(0).integers(0, 17, (60, 64))
    np.savez(tmp_path / "digits.npz", x=rows, y=np.arange(60) % 10)
    data, training = str(tmp_path / "digits.npz"), {"epochs": 2, "learning_rate": 0.05}
    spec = TaskSpec("run", "node", "digits", {"hidden": [16]}, training, codec, data, {}, 1, method=method)
    (tmp_path / "plain").mkdir()
    plain = LoadedTask(spec, tmp_path / "plain", quiet, Progress())
    first = plain.initial_model()
    elements = Schema.from_bytes(first.schema).averaged_elements
    state = np.random.default_rng(1).standard_normal(elements).astype("<f4")
    (tmp_path / "state").write_bytes(state.tobytes())

    def learned(number: int) -> bytes:
        return plain.train(number, first.schema, first.model, server_state=state.tobytes()).update

    one, update = learned(1), "a" * 64
    name_next(tmp_path / "plain", 1, update)
    unused = learned(2)
    use_named(tmp_path / "plain", 1, update)
    used = learned(2)
    assert len({one, unused, used}) == 3

    async def test(trainer):
        session = await trainer.open(spec, quiet)

        async def trained(number: int) -> bytes:
            return content(await session.train(number, first.schema, first.model, tmp_path / "state"))

        assert await trained(1) == one
        await trainer.carry_on("run", 1, update, used=False)
        assert await trained(2) == unused
        for _ in range(2):
            await trainer.carry_on("run", 1, update, used=True)
            assert await trained(2) == used
        await session.close()
        session = await trainer.open(spec, quiet)
        assert await trained(2) == used
        await session.close()
        await trainer.forget("run")
        session = await trainer.open(spec, quiet)
        assert await trained(2) == unused

    run(test)


def test_scaffold_and_fednova_tell_tasks_that_do_not_fit(run, spec):
    async def test(trainer):
        session = await trainer.open(replace(spec, method="scaffold"), quiet)
        made = await session.initial_model()
        with pytest.raises(TrainerFailed, match="SCAFFOLD corrected nothing: the task trains in a way of its own"):
            await session.train(1, made.schema, made.model)
        await session.close()
        uncounted = LINE.replace('"rounds": rounds}, step)', '"rounds": rounds})')
        session = await trainer.open(replace(line_spec(Path(spec.task).parent, uncounted), method="fednova"), quiet)
        with pytest.raises(TrainerFailed, match="The task's result counts 0 steps, which fednova cannot work with"):
            await session.train(1, made.schema, made.model)

    run(test)
