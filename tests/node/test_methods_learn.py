"""The methods on real digits, dealt out so unevenly that the plain mean suffers: six nodes, Dirichlet 0.05.

`python tests/node/test_methods_learn.py` prints the table of docs/methods.md.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aggregation.combine import combine
from aggregation.settings import CombineSettings
from aggregation.tensors.schema import Schema
from aggregation.updates import update_of
from node.data.shares import digits_split
from node.seams import TaskSpec
from node.training.carried_files import name_next, use_named
from node.training.sgd import Progress
from node.training.training import LoadedTask

NODES = 6
ALPHA = 0.05
UPDATE = "a" * 64


@dataclass(frozen=True)
class Trial:
    """One run, in a plain loop over the parts that nodes use."""

    method: str = "fedavg"
    codec: str = "fp32"
    epochs: int = 10
    server: str = "none"
    rate: float = 1.0
    weighting: str = "uniform"
    training: Mapping[str, float] = field(default_factory=dict)

    def rounds(self, folder: Path, count: int) -> list[tuple[float, float]]:
        """Loss and accuracy after each round, on digits that nobody trained on."""
        paths = digits_split(NODES, ALPHA).write(folder / "data")
        nodes = [self._node(folder / f"node-{n}", path, {"evaluation_share": 0.0}) for n, path in enumerate(paths)]
        judge = self._node(folder / "judge", folder / "data" / "held-out.npz", {"evaluation_share": 1.0})
        first = judge.initial_model()
        schema, base, state = Schema.from_bytes(first.schema), first.model, b""
        settings = CombineSettings(
            method=self.method,
            weighting=self.weighting,
            update_codec=self.codec,
            server_optimizer=self.server,
            server_learning_rate=self.rate,
        )
        measured = []
        for number in range(1, count + 1):
            updates = []
            for n, node in enumerate(nodes):
                learned = node.train(number, first.schema, base, server_state=state)
                updates.append(update_of(f"node-{n}", learned.update, learned.samples, steps=learned.steps))
                name_next(folder / f"node-{n}", number, UPDATE)
            combined = combine(base, schema, updates, settings, state, roster_nodes=NODES)
            assert not combined.refused
            for n in range(NODES):
                use_named(folder / f"node-{n}", number, UPDATE)
            base, state = combined.model, combined.server_state
            found = judge.evaluate(number, first.schema, base)
            assert found is not None
            measured.append((found.metrics["loss"], found.metrics["accuracy"]))
        return measured

    def _node(self, folder: Path, data: Path, options: dict[str, float]) -> LoadedTask:
        folder.mkdir()
        training = {"epochs": self.epochs, "learning_rate": 0.05, "batch_size": 16, **self.training}
        parameters: dict[str, list[int]] = {"hidden": []}  # a linear model: one optimum, and how far one is from it
        spec = TaskSpec(
            "run",
            folder.name,
            "digits",
            parameters,
            training,
            self.codec,
            str(data),
            options,
            1,
            method=self.method if folder.name != "judge" else "fedavg",
        )
        return LoadedTask(spec, folder, lambda said: None, Progress())


def test_scaffold_comes_nearer_to_the_optimum_where_data_differ(tmp_path: Path) -> None:
    """With ten epochs a round each node goes far its own way; the controls take that out."""
    for name in ("plain", "corrected"):
        (tmp_path / name).mkdir()
    plain = Trial().rounds(tmp_path / "plain", 15)
    corrected = Trial("scaffold").rounds(tmp_path / "corrected", 15)
    assert corrected[-1][0] < 0.85 * plain[-1][0]
    assert corrected[-1][1] > 0.85


def test_fednova_evens_out_amounts_of_data(tmp_path: Path) -> None:
    for name in ("plain", "even"):
        (tmp_path / name).mkdir()
    plain = Trial(weighting="samples").rounds(tmp_path / "plain", 8)
    even = Trial("fednova", weighting="samples").rounds(tmp_path / "even", 8)
    assert even[-1][0] < plain[-1][0]


TABLE = {
    "FedAvg, by samples": Trial(weighting="samples"),
    "FedAvg, uniform": Trial(),
    "FedProx, mu 0.1": Trial(training={"proximal_mu": 0.1}),
    "FedNova": Trial("fednova", weighting="samples"),
    "SCAFFOLD": Trial("scaffold"),
    "FedAvgM, rate 0.5": Trial(server="momentum", rate=0.5),
    "FedAdagrad, rate 0.05": Trial(server="adagrad", rate=0.05),
    "FedAdam, rate 0.02": Trial(server="adam", rate=0.02),
    "FedYogi, rate 0.02": Trial(server="yogi", rate=0.02),
    "FedAvg, int8": Trial(codec="int8"),
    "FedAvg, top10": Trial(codec="top10"),
    "FedAvg, top1": Trial(codec="top1"),
    "SCAFFOLD, int8": Trial("scaffold", codec="int8"),
}


def main() -> None:
    for name, trial in TABLE.items():
        with tempfile.TemporaryDirectory() as folder:
            after = trial.rounds(Path(folder), 20)
        figures = " | ".join(f"{loss:.3f} | {accuracy:.3f}" for loss, accuracy in (after[4], after[19]))
        sys.stdout.write(f"| {name} | {figures} |\n")


if __name__ == "__main__":
    main()
