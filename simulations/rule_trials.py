"""Trials of the rules against liars: the digits trained again and again by ten participants, of whom some lie.

Decides what is compared with what. A trial is real training: the task's own code, a participant's own part of the data
and the aggregator's own combining, round after round. What it leaves out is the nodes around that (the group, the
network, election and commit), which change no bit of a model and would take most of the time.

The liars are the last participants. They lie in every round. Participants have about as many samples, of about the
same digits: where their data differ more, the honest ones look like liars to each other, and every rule does worse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aggregation.codecs.codec import Codec
from aggregation.combine import combine
from aggregation.settings import CombineSettings
from aggregation.tensors.flat import F32
from aggregation.tensors.schema import Schema
from aggregation.updates import Update, update_of
from node.data.shares import DigitsSplit, digits_split
from node.seams import TaskSpec, TrainerFailed
from node.training.sgd import Progress
from node.training.training import Trained
from simulations.faults.lies import COLLUDING_LIES, colluded, lied
from simulations.training.batched import BatchedTraining, Seat
from simulations.training.companion import Companion

PARTICIPANTS = 10
LIARS_MAX = 4
ROUNDS = 15
EVENNESS = 3.0  # the Dirichlet draws' alpha: every participant has most digits
HYPERPARAMETERS = {"epochs": 5, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9}
TASK_PARAMETERS = {"hidden": (64,)}
CODEC = "bf16"

DIGIT_MAX = 9
LABEL_FLIP = "label-flip"  # who does it calls every digit d by the name of 9 − d
# By the name in the table: one of simulations.faults.lies, or LABEL_FLIP, which is done to the data.
ATTACKS: Mapping[str, str] = {
    "random noise": "loud-noise",
    "sign flip": "sign-flip",
    "scaled by ten": "scaled",
    "label flip": LABEL_FLIP,
    "zeros": "zeros",
    "a little is enough": "little-is-enough",
    "inner product": "inner-product",
}
# What is tried, by the name in the tables: the settings that differ from those of a run that says nothing.
TRIED: Mapping[str, Mapping[str, Any]] = {
    "mean": {"rule": "mean"},
    "screened mean": {"rule": "mean", "screen_factor": 3.0},
    "clipped mean": {"rule": "mean", "clip": "median"},
    "median": {"rule": "median"},
    "trimmed mean": {"rule": "trimmed_mean"},
    "Krum": {"rule": "krum"},
    "multi-Krum": {"rule": "multi_krum"},
    "geometric median": {"rule": "geometric_median", "weighting": "uniform"},
    "centred clipping": {"rule": "centred_clipping", "weighting": "uniform"},
    "mixed trimmed mean": {"rule": "trimmed_mean", "mix_share": 0.2},
}


@dataclass(frozen=True)
class Trial:
    """One training: with which settings, and how many of its participants lie in which way."""

    tried: str  # a key of TRIED
    attack: str = ""  # a key of ATTACKS
    liars: int = 0

    @property
    def settings(self) -> CombineSettings:
        return CombineSettings(**TRIED[self.tried], update_codec=CODEC, checkpoint_codec=CODEC)


class Classroom:
    """Participants with their data, loaded once for many trials. `directory` is the caller's to remove."""

    def __init__(self, directory: Path, seed: int, evenness: float = EVENNESS) -> None:
        self._directory = directory
        self._seed = seed
        together = BatchedTraining(together_min=2)
        split = digits_split(PARTICIPANTS, alpha=evenness, seed=seed)
        mislabelled = replace(split, shares=[(x, DIGIT_MAX - y) for x, y in split.shares])
        self._honest = self._participants("honest", split, together)
        self._mislabelled = self._participants("mislabelled", mislabelled, together)
        self._judge = self._load("judge", directory / "honest" / "held-out.npz", holds_out_all=True)

    def accuracy(self, trial: Trial, rounds: int = ROUNDS) -> float:
        """Of the model after so many rounds, on digits that nobody trains on."""
        initial, settings = self._judge.initial_model(), trial.settings
        schema, model, state = Schema.from_bytes(initial.schema), initial.model, b""
        for number in range(1, rounds + 1):
            trained = self._trained(trial, number, initial.schema, model)
            updates = self._updates(trial, number, trained, settings.update_coding)
            combined = combine(model, schema, updates, settings, state)
            model, state = combined.model, combined.server_state
        result = self._judge.evaluate(rounds, initial.schema, model)
        return result.metrics["accuracy"] if result is not None else 0.0

    def _trained(self, trial: Trial, number: int, schema: bytes, model: bytes) -> list[Trained | None]:
        """What everybody learned from `model`; None where the training failed, as it does from a model gone wild."""
        honest = PARTICIPANTS - (trial.liars if ATTACKS.get(trial.attack) == LABEL_FLIP else 0)
        participants = [*self._honest[:honest], *self._mislabelled[honest:]]
        requests = [seat.training(number, schema, model) for _, seat in participants]
        learned: list[Trained | None] = []
        for (task, _), request in zip(participants, requests, strict=True):
            try:
                learned.append((request and request.result()) or task.train(number, schema, model))
            except TrainerFailed:
                learned.append(None)
        return learned

    def _updates(self, trial: Trial, number: int, trained: Sequence[Trained | None], codec: Codec) -> list[Update]:
        """What everybody sends. Nobody sends anything whose training failed."""
        there = {index: learned for index, learned in enumerate(trained) if learned is not None}
        sent = {index: _values(learned, codec) for index, learned in there.items()}
        honest = [values for index, values in sent.items() if index < PARTICIPANTS - trial.liars]
        for index in sent.keys() & set(range(PARTICIPANTS - trial.liars, PARTICIPANTS)):
            random = np.random.default_rng([self._seed, number, index])
            sent[index] = _attacked(sent[index], honest, ATTACKS[trial.attack], random)
        return [update_of(f"{i}", codec.encode(values), there[i].samples) for i, values in sent.items()]

    def _participants(self, name: str, split: DigitsSplit, together: BatchedTraining) -> list[tuple[Companion, Seat]]:
        paths = split.write(self._directory / name)
        tasks = [self._load(f"{number}", path) for number, path in enumerate(paths)]
        return [(task, together.seat(task)) for task in tasks]

    def _load(self, name: str, data: Path, *, holds_out_all: bool = False) -> Companion:
        spec = TaskSpec(
            run_id="trial",
            node_id=name,
            task="digits",
            task_parameters=TASK_PARAMETERS,
            hyperparameters=HYPERPARAMETERS,
            codec=CODEC,
            data_path=str(data),
            data_options={} if holds_out_all else {"evaluation_share": 0.0},
            seed=self._seed,
            holds_out_all=holds_out_all,
        )
        return Companion(spec, data.parent, lambda said: None, Progress())


def _values(learned: Trained, codec: Codec) -> F32:
    update = learned.update if isinstance(learned.update, bytes) else learned.update.read_bytes()
    return np.array(codec.decode(update, np.empty(len(update) // codec.coded_bytes(1), np.float32)))


def _attacked(own: F32, honest: Sequence[F32], lie: str, random: np.random.Generator) -> F32:
    """What a liar sends who has learned `own`."""
    if lie == LABEL_FLIP:
        return own  # of data that lie
    if lie in COLLUDING_LIES:
        return colluded(np.array(honest, np.float64), lie)
    return lied(own, lie, random)
