"""What a rule is: how the updates of a round become one difference.

Decides the shape that every rule has. A rule first makes a plan from what the checks found (and, if it must, from
passes over the spooled updates, say for a Gram matrix): who counts, with which integer weight. Then the plan combines
slab after slab, reading any update's slab as often as it likes, so memory does not grow with the length of the updates.
A rule that sums ends in `WeightedSum`, whatever its weights come from; one that sorts coordinates brings its own plan.

All that decides must be computed in integers or in separate elementwise operations, so that any participant can
recompute a checkpoint bit for bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from aggregation.tensors.exact_sum import ExactSum, choose_exponent
from aggregation.tensors.flat import F32, SLAB_ELEMENTS, FlatLayout
from aggregation.updates import Checked, Refusal
from protocol.errors import FednodeError

WEIGHTINGS = ("samples", "uniform")
BYZANTINE_SHARE = 0.2  # two of ten


class Slab(NamedTuple):
    """Elements `start` to `stop` of the flat vector."""

    start: int
    stop: int


class Rows(Protocol):
    """One slab of every candidate's difference, decoded when asked for."""

    def __len__(self) -> int: ...

    def read(self, index: int, out: F32) -> F32:
        """The slab of candidate `index`: `out` after filling it, or a read-only view that lasts until the next read."""


class Spool(Protocol):
    """The round's checked updates, for rules that must look at them before they plan."""

    def slabs(self, elements: int) -> Sequence[Slab]: ...

    def rows(self, slab: Slab) -> Rows: ...


@dataclass(frozen=True)
class Candidate:
    """An update that passed the checks."""

    name: str
    samples: int
    checked: Checked
    steps: int = 1  # of its training, as its sender claims


SlabCombiner = Callable[[Slab, Rows, F32], None]


class Plan(ABC):
    """What a rule decided for one round."""

    weights: tuple[int, ...]  # one per candidate, at most WEIGHT_MAX; 0 where the rule set it aside
    exponents: tuple[int, ...] = ()  # per averaged tensor, for a plan that sums in fixed point
    refused: tuple[Refusal, ...] = ()  # the candidates set aside, and why
    stats: Mapping[str, float] = MappingProxyType({})  # what else there is to tell of it
    slab_elements: int = SLAB_ELEMENTS  # a power of two of at least 4,096; less for plans that hold many rows at once

    @abstractmethod
    def combiner(self) -> SlabCombiner:
        """A function that writes one slab's combined difference into its last argument, with memory of its own.

        The result must depend on the slab's values alone, not on where slabs begin or who computes them."""


class Rule(ABC):
    """One way to combine updates. New ones need a name, their parameters' names, `plan`, and an entry in RULES."""

    name: ClassVar[str]
    parameter_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, weighting: str, parameters: Mapping[str, float]) -> None:
        """`weighting` is one of WEIGHTINGS. Raises FednodeError for parameters that the rule has not, or not so."""
        unknown = sorted(parameters.keys() - set(self.parameter_names))
        if unknown:
            raise FednodeError(
                f"The rule {self.name!r} has no parameter {unknown[0]!r}",
                remedy=f"leave it out; known are: {', '.join(self.parameter_names) or 'none'}",
            )

    @abstractmethod
    def plan(self, layout: FlatLayout, candidates: Sequence[Candidate], spool: Spool) -> Plan:
        """Decide over the round's candidates, of which there is at least one, sorted by name."""


class WeightedSum(Plan):
    """Σ weight · difference ÷ divisor, exactly (aggregation.exact_sum)."""

    def __init__(
        self,
        layout: FlatLayout,
        candidates: Sequence[Candidate],
        weights: Sequence[int],
        divisor: float,
        refused: tuple[Refusal, ...] = (),
    ) -> None:
        """`weights` are integers of 0 to WEIGHT_MAX, not all of them 0; `divisor` is positive; `refused` says of every
        weight of 0 why."""
        self.weights = tuple(weights)
        self.refused = refused
        # Of a difference that is large and weighs little, as a clipped one does, the product counts.
        terms = [
            [choose_exponent(exponent, weight) for exponent in candidate.checked.value_exponents]
            for candidate, weight in zip(candidates, weights, strict=True)
            if weight
        ]
        self.exponents = tuple(min(column) for column in zip(*terms, strict=True))
        self._divisor = divisor
        self._layout = layout

    def combiner(self) -> SlabCombiner:
        total = ExactSum(min(self.slab_elements, self._layout.elements), 0)
        room = np.empty(self.slab_elements, np.float32)

        def combine(slab: Slab, rows: Rows, out: F32) -> None:
            length = slab.stop - slab.start
            total.restart(length, self._slab_exponents(slab))
            with np.errstate(over="ignore", invalid="ignore"):  # what is out of bounds is caught in the sum
                for index, weight in enumerate(self.weights):
                    if weight:
                        total.add(rows.read(index, room[:length]), weight)
            total.mean(self._divisor, out)

        return combine

    def _slab_exponents(self, slab: Slab) -> "int | np.ndarray[tuple[int], np.dtype[np.int16]]":
        pieces = list(self._layout.pieces(*slab))
        if len(pieces) == 1:
            return self.exponents[pieces[0].tensor]
        return np.repeat(
            np.array([self.exponents[piece.tensor] for piece in pieces], np.int16),
            [piece.stop - piece.start for piece in pieces],
        )


def checked_share(parameters: Mapping[str, float]) -> float:
    """The share of updates that the run takes for lies. Raises FednodeError unless it is at least 0 and below half."""
    share = parameters.get("byzantine_share", BYZANTINE_SHARE)
    if not 0 <= share < 0.5:
        raise FednodeError(
            f"A byzantine share of {share} cannot be survived", remedy="give at least 0 and less than 0.5"
        )
    return share
