"""What a run's manifest says about combining, in aggregation's words."""

from aggregation.rules.registry import RULES
from aggregation.rules.screening import MEDIAN
from aggregation.server_optimizers import SERVER_OPTIMIZERS
from aggregation.settings import CombineSettings
from protocol.manifest.manifest import Manifest
from protocol.manifest.sections import Aggregation


def settings_of(manifest: Manifest) -> CombineSettings:
    keys = manifest.aggregation
    return CombineSettings(
        rule=keys.rule,
        weighting=keys.counts_by,
        rule_parameters=_rule_parameters(keys),
        method=keys.method,
        server_optimizer=keys.server_optimizer,
        server_learning_rate=keys.server_rate,
        server_parameters=_server_parameters(keys),
        update_codec=keys.codec,
        checkpoint_codec=keys.codec_of_checkpoints,
        norm_bound=keys.norm_max,
        screen_factor=keys.screen_factor,
        clip={"none": None, "norm": keys.clip_norm, "median": MEDIAN}[keys.clip],
        mix_share=keys.byzantine_share if keys.pre_aggregation == "nnm" else None,
    )


def _rule_parameters(keys: Aggregation) -> dict[str, float]:
    """What the rule takes, by its own names, of what is given."""
    given = {"byzantine_share": keys.byzantine_share, "weight_max": keys.weight_max, "radius": keys.clip_radius}
    return {name: value for name in RULES[keys.rule].parameter_names if (value := given[name]) is not None}


def _server_parameters(keys: Aggregation) -> dict[str, float]:
    """What the server optimizer takes, by its own names."""
    names = SERVER_OPTIMIZERS[keys.server_optimizer].parameter_names
    return {name: getattr(keys, f"server_{name}") for name in names}
