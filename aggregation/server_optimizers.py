"""Server optimizers: what is done with a round's combined difference before it becomes the next checkpoint.

Decides the step and the state that is carried from checkpoint to checkpoint. The state is part of what is committed, so
whoever is elected next goes on from it; its byte form is the flat float32 arrays of `state_names`, one after another.

Only separate + − × ÷ √ of numpy in float32: the same bits on every CPU. (Fused forms such as `lerp` differ.)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import ClassVar

import numpy as np

from aggregation.flat import F32
from aggregation.schema import Schema
from protocol.errors import FednodeError

LEARNING_RATE_MAX = 1000.0  # larger steps than this are a slip of the keyboard
MOMENTUM_MAX = 0.9999  # keeps the state below 10^4 differences, far within float32's range
STATE_VALUE_END = 2.0**100  # no honest state reaches it: differences stay below 2^64


class ServerOptimizer(ABC):
    """One method. New ones need a name, their state's names, `__init__` from the run's settings, `step`, a place in
    SERVER_OPTIMIZERS."""

    name: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def step(self, difference: F32, state: Sequence[F32]) -> F32:
        """What to add to the model, for one slab, possibly in `difference`'s own memory.

        Updates the state's arrays, one per name and as long as `difference`, in place. Every element must depend only
        on the elements at its own place."""

    def state_bytes(self, schema: Schema) -> int:
        """The exact length of the state's byte form."""
        return 4 * schema.averaged_elements * len(self.state_names)


class PlainStep(ServerOptimizer):
    """The difference times the learning rate. At rate 1 this is FedAvg (arXiv:1602.05629)."""

    name = "none"

    def __init__(self, learning_rate: float, parameters: Mapping[str, float]) -> None:
        _check_parameters(self.name, parameters, ())
        self._rate = np.float32(learning_rate)

    def step(self, difference: F32, state: Sequence[F32]) -> F32:
        return scaled(difference, self._rate)


class Momentum(ServerOptimizer):
    """FedAvgM (arXiv:1909.06335): m ← β m + Δ, the step is the learning rate times m."""

    name = "momentum"
    state_names = ("momentum",)

    def __init__(self, learning_rate: float, parameters: Mapping[str, float]) -> None:
        _check_parameters(self.name, parameters, ("momentum",))
        momentum = parameters.get("momentum", 0.9)
        if not 0 <= momentum <= MOMENTUM_MAX:
            raise FednodeError(f"A server momentum of {momentum} is impossible", remedy=f"choose 0 to {MOMENTUM_MAX}")
        self._momentum = np.float32(momentum)
        self._rate = np.float32(learning_rate)

    def step(self, difference: F32, state: Sequence[F32]) -> F32:
        (velocity,) = state
        np.multiply(velocity, self._momentum, out=velocity)
        np.add(velocity, difference, out=velocity)
        np.copyto(difference, velocity)
        return scaled(difference, self._rate)


SERVER_OPTIMIZERS: dict[str, Callable[[float, Mapping[str, float]], ServerOptimizer]] = {
    PlainStep.name: PlainStep,
    Momentum.name: Momentum,
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


def _check_parameters(name: str, parameters: Mapping[str, float], known: tuple[str, ...]) -> None:
    unknown = sorted(parameters.keys() - set(known))
    if unknown:
        raise FednodeError(
            f"The server optimizer {name!r} has no parameter {unknown[0]!r}",
            remedy=f"leave it out; known are: {', '.join(known) or 'none'}",
        )
