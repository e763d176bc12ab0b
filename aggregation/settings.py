"""What a run's manifest says about combining, checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from aggregation.codecs import Codec, codec_named
from aggregation.rule import Rule
from aggregation.rules import make_rule
from aggregation.server_optimizers import ServerOptimizer, make_server_optimizer
from aggregation.updates import check_norm_bound


@dataclass(frozen=True)
class CombineSettings:
    """How updates become a checkpoint. All nodes of a run use the same. Raises FednodeError for what is impossible."""

    rule: str = "mean"
    weighting: str = "samples"  # or "uniform"
    rule_parameters: Mapping[str, float] = field(default_factory=dict)
    server_optimizer: str = "none"
    server_learning_rate: float = 1.0
    server_parameters: Mapping[str, float] = field(default_factory=dict)
    update_codec: str = "fp32"
    checkpoint_codec: str = "fp32"
    norm_bound: float | None = None  # updates of a greater Euclidean norm are refused

    def __post_init__(self) -> None:
        self.make_rule()
        self.make_server_optimizer()
        codec_named(self.update_codec)
        codec_named(self.checkpoint_codec)
        if self.norm_bound is not None:
            check_norm_bound(self.norm_bound)

    def make_rule(self) -> Rule:
        return make_rule(self.rule, self.weighting, self.rule_parameters)

    def make_server_optimizer(self) -> ServerOptimizer:
        return make_server_optimizer(self.server_optimizer, self.server_learning_rate, self.server_parameters)

    @cached_property
    def update_coding(self) -> Codec:
        return codec_named(self.update_codec)

    @cached_property
    def checkpoint_coding(self) -> Codec:
        return codec_named(self.checkpoint_codec)
