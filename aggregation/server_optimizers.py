"""Server optimizers: what is done with a round's combined difference before it becomes the next checkpoint.

Decides the step and the state that is carried from checkpoint to checkpoint. The state is part of what is committed, so
whoever is elected next goes on from it; its byte form is the flat float32 arrays of `state_names`, one after another,
all zeros before the first round.

Only separate + − × ÷ √ of numpy in float32: the same bits on every CPU. (Fused forms such as `lerp` differ, and so does
the square root of torch.)

No admissible difference drives a state to STATE_VALUE_END. A combined difference stays below 2^71: values are below
2^64 and no rule makes more than 2^7 times as much of them. A momentum of at most 0.9999 sums that up to less than 2^85.
What is squared is first brought to within SQUARED_VALUE_MAX = 2^48, so a square is at most 2^96, and what sums squares
stops at SECOND_MOMENT_MAX = 2^99.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import ClassVar

import numpy as np

from aggregation.tensors.flat import F32
from protocol.errors import FednodeError

LEARNING_RATE_MAX = 1000.0  # larger steps than this are a slip of the keyboard
MOMENTUM_MAX = 0.9999  # keeps the state below 10^4 differences, far within float32's range
TAU_MIN = 1e-10  # the least that a step is divided by: with it no step leaves float32's range
TAU_MAX = 1e6  # larger ones make the adaptive part of a step vanish
SQUARED_VALUE_MAX = 2.0**48  # in magnitude; no model's honest change comes near it
SECOND_MOMENT_MAX = 2.0**99
STATE_VALUE_END = 2.0**100  # no state reaches it, see above


class ServerOptimizer(ABC):
    """One method. New ones need a name, their state's and parameters' names, `step`, a place in SERVER_OPTIMIZERS."""

    name: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]] = ()
    parameter_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, learning_rate: float, parameters: Mapping[str, float]) -> None:
        """Raises FednodeError for parameters that the method has not, or not so."""
        unknown = sorted(parameters.keys() - set(self.parameter_names))
        if unknown:
            raise FednodeError(
                f"The server optimizer {self.name!r} has no parameter {unknown[0]!r}",
                remedy=f"leave it out; known are: {', '.join(self.parameter_names) or 'none'}",
            )
        self._rate = np.float32(learning_rate)

    @abstractmethod
    def step(self, difference: F32, state: Sequence[F32]) -> F32:
        """What to add to the model, for one slab, possibly in `difference`'s own memory.

        Updates the state's arrays, one per name and as long as `difference`, in place. Every element must depend only
        on the elements at its own place."""


class PlainStep(ServerOptimizer):
    """The difference times the learning rate. At rate 1 this is FedAvg (arXiv:1602.05629)."""

    name = "none"

    def step(self, difference: F32, state: Sequence[F32]) -> F32:
        return scaled(difference, self._rate)


class Momentum(ServerOptimizer):
    """FedAvgM (arXiv:1909.06335): m ← β m + Δ, the step is the learning rate times m."""

    name = "momentum"
    state_names = ("momentum",)
    parameter_names = ("momentum",)

    def __init__(self, learning_rate: float, parameters: Mapping[str, float]) -> None:
        super().__init__(learning_rate, parameters)
        self._momentum = _share(parameters, "momentum", 0.9)

    def step(self, difference: F32, state: Sequence[F32]) -> F32:
        (velocity,) = state
        np.multiply(velocity, self._momentum, out=velocity)
        np.add(velocity, difference, out=velocity)
        np.copyto(difference, velocity)
        return scaled(difference, self._rate)


class Adaptive(ServerOptimizer):
    """FedOpt (arXiv:2003.00295, algorithm 2): m ← β₁ m + (1 − β₁) Δ, v by the method, the step is the learning rate
    times m ÷ (√v + τ). Without Adam's correction for the first rounds, as in the paper.

    Parameters: beta1, tau, and beta2 where the method has it. Methods give `accumulate`."""

    state_names = ("momentum", "second moment")
    parameter_names: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "tau")

    def __init__(self, learning_rate: float, parameters: Mapping[str, float]) -> None:
        super().__init__(learning_rate, parameters)
        tau = parameters.get("tau", 1e-3)
        if not TAU_MIN <= tau <= TAU_MAX:
            raise FednodeError(f"A server tau of {tau} is impossible", remedy=f"choose {TAU_MIN:g} to {TAU_MAX:g}")
        self._beta1 = _share(parameters, "beta1", 0.9)
        self._beta2 = _share(parameters, "beta2", 0.99)
        self._tau = np.float32(tau)

    @abstractmethod
    def accumulate(self, second: F32, squares: F32) -> None:
        """Bring the second moment up to date in place, given the squared difference, which it may overwrite."""

    def step(self, difference: F32, state: Sequence[F32]) -> F32:
        momentum, second = state
        squares = np.clip(difference, np.float32(-SQUARED_VALUE_MAX), np.float32(SQUARED_VALUE_MAX))
        np.multiply(squares, squares, out=squares)
        np.multiply(momentum, self._beta1, out=momentum)
        np.multiply(difference, np.float32(1) - self._beta1, out=difference)
        np.add(momentum, difference, out=momentum)
        self.accumulate(second, squares)
        np.minimum(second, np.float32(SECOND_MOMENT_MAX), out=second)
        divisor = np.sqrt(second, out=squares)
        np.add(divisor, self._tau, out=divisor)
        np.divide(momentum, divisor, out=difference)
        return scaled(difference, self._rate)


class Adagrad(Adaptive):
    """FedAdagrad: v ← v + Δ². Steps become shorter as the run goes on."""

    name = "adagrad"
    parameter_names = ("beta1", "tau")

    def accumulate(self, second: F32, squares: F32) -> None:
        np.add(second, squares, out=second)


class Adam(Adaptive):
    """FedAdam: v ← β₂ v + (1 − β₂) Δ²."""

    name = "adam"

    def accumulate(self, second: F32, squares: F32) -> None:
        np.multiply(second, self._beta2, out=second)
        np.multiply(squares, np.float32(1) - self._beta2, out=squares)
        np.add(second, squares, out=second)


class Yogi(Adaptive):
    """FedYogi: v ← v − (1 − β₂) Δ² sign(v − Δ²). As Adam, but v falls no faster than it rises."""

    name = "yogi"

    def accumulate(self, second: F32, squares: F32) -> None:
        signs = np.sign(np.subtract(second, squares))
        np.multiply(squares, np.float32(1) - self._beta2, out=squares)
        np.multiply(squares, signs, out=squares)
        np.subtract(second, squares, out=second)


SERVER_OPTIMIZERS: dict[str, type[ServerOptimizer]] = {
    method.name: method for method in (PlainStep, Momentum, Adagrad, Adam, Yogi)
}


def make_server_optimizer(name: str, learning_rate: float, parameters: Mapping[str, float]) -> ServerOptimizer:
    """The server optimizer of a run's settings. Raises FednodeError that names what is unknown or out of range."""
    if name not in SERVER_OPTIMIZERS:
        raise FednodeError(
            f"There is no server optimizer {name!r}", remedy=f"choose one of {', '.join(SERVER_OPTIMIZERS)}"
        )
    if not (isfinite(learning_rate) and 0 < learning_rate <= LEARNING_RATE_MAX):
        raise FednodeError(
            f"A server learning rate of {learning_rate} is impossible",
            remedy=f"choose one above 0 and up to {LEARNING_RATE_MAX:g}",
        )
    return SERVER_OPTIMIZERS[name](learning_rate, parameters)


def scaled(values: F32, factor: np.float32) -> F32:
    """`values` × `factor`, in place."""
    if factor != 1:
        np.multiply(values, factor, out=values)
    return values


def _share(parameters: Mapping[str, float], name: str, default: float) -> np.float32:
    """What of the past stays: a parameter from 0 to MOMENTUM_MAX."""
    share = parameters.get(name, default)
    if not 0 <= share <= MOMENTUM_MAX:
        raise FednodeError(f"A server {name} of {share} is impossible", remedy=f"choose 0 to {MOMENTUM_MAX}")
    return np.float32(share)
