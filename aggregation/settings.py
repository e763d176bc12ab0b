"""What a run's manifest says about combining, checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy.typing as npt

from aggregation.codecs.codec import Codec
from aggregation.codecs.registry import codec_named, difference_bytes
from aggregation.rules.fednova import FedNova
from aggregation.rules.mean import Mean
from aggregation.rules.registry import make_rule
from aggregation.rules.rule import Rule, checked_share
from aggregation.rules.screening import check_screening
from aggregation.rules.sums import SumRule
from aggregation.scaffold import update_schema
from aggregation.server_optimizers import ServerOptimizer, make_server_optimizer
from aggregation.tensors.exact_sum import TERMS_MAX
from aggregation.tensors.schema import Schema
from aggregation.updates import Bounds, check_norm_bound
from protocol.errors import FednodeError
from protocol.limits import DISTANCE_UPDATES_MAX

METHODS = ("fedavg", "fednova", "scaffold")


@dataclass(frozen=True)
class CombineSettings:
    """How updates become a checkpoint. All nodes of a run use the same. Raises FednodeError for what is impossible."""

    rule: str = "mean"
    weighting: str = "samples"  # or "uniform"
    rule_parameters: Mapping[str, float] = field(default_factory=dict)
    method: str = "fedavg"  # or another of METHODS
    server_optimizer: str = "none"
    server_learning_rate: float = 1.0
    server_parameters: Mapping[str, float] = field(default_factory=dict)
    update_codec: str = "fp32"
    checkpoint_codec: str = "fp32"
    norm_bound: float | None = None  # updates of a greater Euclidean norm are refused
    screen_factor: float | None = None  # … and those so many times as long as the round's median
    clip: float | str | None = None  # longer differences are shortened to this, or to the round's "median"
    mix_share: float | None = None  # each is mixed with its nearest, all but this share; None: with nobody

    def __post_init__(self) -> None:
        self.make_rule()
        self.make_server_optimizer()
        codec_named(self.update_codec)
        codec_named(self.checkpoint_codec)
        if self.norm_bound is not None:
            check_norm_bound(self.norm_bound)
        check_screening(self.screen_factor, self.clip)
        if self.mix_share is not None:
            checked_share({"byzantine_share": self.mix_share})

    def bounds(self, counters: Mapping[str, npt.NDArray[Any]]) -> Bounds:
        """What an update must keep to on a base checkpoint of these counters."""
        return Bounds(counters, self.norm_bound, self.screen_factor is not None or self.clip is not None)

    def of_updates(self, schema: Schema) -> Schema:
        """The schema of the updates of a model of `schema`."""
        return update_schema(schema, self.method)

    def update_bytes(self, schema: Schema) -> int:
        """The exact length of an update of a model of `schema`."""
        return difference_bytes(self.of_updates(schema), self.update_coding)

    def make_rule(self) -> Rule:
        """The rule, or the mean that the method has in its place."""
        rule = make_rule(self.rule, self.weighting, self.rule_parameters)
        if self.method not in METHODS:
            raise FednodeError(f"There is no method {self.method!r}", remedy=f"choose one of {', '.join(METHODS)}")
        if self.method != "fedavg" and self.rule != Mean.name:
            raise FednodeError(f"{self.method} goes with no rule {self.rule!r}", remedy="take the rule mean")
        return FedNova(self.weighting, self.rule_parameters) if self.method == "fednova" else rule

    @cached_property
    def updates_max(self) -> int:
        """The most updates that one round has room for."""
        rule = self.make_rule()
        needs_gram = self.mix_share is not None or (isinstance(rule, SumRule) and rule.needs_gram)
        return DISTANCE_UPDATES_MAX if needs_gram else TERMS_MAX

    def make_server_optimizer(self) -> ServerOptimizer:
        return make_server_optimizer(self.server_optimizer, self.server_learning_rate, self.server_parameters)

    @cached_property
    def update_coding(self) -> Codec:
        return codec_named(self.update_codec)

    @cached_property
    def checkpoint_coding(self) -> Codec:
        return codec_named(self.checkpoint_codec)
