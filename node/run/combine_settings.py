"""What a run's manifest says about combining, in aggregation's words."""

from aggregation.settings import CombineSettings
from protocol.manifest import Manifest


def settings_of(manifest: Manifest) -> CombineSettings:
    keys = manifest.aggregation
    return CombineSettings(
        rule=keys.rule,
        weighting=keys.weighting,
        server_optimizer=keys.server_optimizer,
        server_learning_rate=keys.server_learning_rate,
        server_parameters={"momentum": keys.server_momentum} if keys.server_optimizer == "momentum" else {},
        update_codec=keys.codec,
        checkpoint_codec=keys.codec,
        norm_bound=keys.norm_max,
    )
