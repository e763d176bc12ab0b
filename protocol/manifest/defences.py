"""Rules over the keys of [aggregation] that guard against lying nodes: what goes together, what guards nothing.

As in protocol.manifest.rules each is a function under one sentence, giving what is wrong or nothing.
"""

from fractions import Fraction

from protocol.limits import DISTANCE_UPDATES_MAX
from protocol.manifest.sections import Aggregation, Keys
from protocol.run.voters import drawn_of

CAPPED_RULES = frozenset({"geometric_median", "centred_clipping"})  # may count by samples, under a cap
KRUM_RULES = frozenset({"krum", "multi_krum"})
SHARE_RULES = KRUM_RULES | {"trimmed_mean"}  # need to know how many may lie
DISTANCE_RULES = KRUM_RULES | CAPPED_RULES  # between all updates
ONE_VOICE_RULES = SHARE_RULES | {"median"}  # every update counts once
SHARE_DEFAULT = Aggregation().byzantine_share


def asks_for_a_share(aggregation: Aggregation) -> bool:
    """Whether the rule, or the mixing before it, is told how many lie."""
    return aggregation.rule in SHARE_RULES or aggregation.pre_aggregation == "nnm"


def byzantine_count(share: float, count: int) -> int:
    """floor(`share` · `count`), of the decimal number that people wrote: 0.29 of 100 are 29."""
    return int(Fraction(repr(share)) * count)


def claims_do_not_outvote(keys: Keys) -> str:
    """Where liars are expected, what a node says of its samples gives it no more than a bounded voice."""
    aggregation = keys.aggregation
    if aggregation.weighting != "samples":
        return ""
    if aggregation.rule in ONE_VOICE_RULES:
        return (
            f"aggregation.weighting is samples: with the rule {aggregation.rule} every update counts alike, since a "
            "node may claim any number of samples; leave it out"
        )
    if aggregation.rule in CAPPED_RULES and aggregation.weight_max is None:
        return (
            f"aggregation.weighting is samples: with the rule {aggregation.rule} it takes aggregation.weight_max too, "
            "so that no node outvotes the others by what it claims"
        )
    return ""


def a_cap_caps_samples(keys: Keys) -> str:
    """A cap on weights is for weights by samples."""
    aggregation = keys.aggregation
    if aggregation.weight_max is not None and aggregation.counts_by != "samples":
        return f'aggregation.weight_max is {aggregation.weight_max}: it belongs to aggregation.weighting = "samples"'
    return ""


def a_share_of_liars_has_a_use(keys: Keys) -> str:
    """How many may lie is asked by some rules and by mixing, and by nothing else."""
    aggregation = keys.aggregation
    if aggregation.byzantine_share != SHARE_DEFAULT and not asks_for_a_share(aggregation):
        return (
            f"aggregation.byzantine_share is {aggregation.byzantine_share}: the rule {aggregation.rule} does not ask "
            "for it; leave it out, or take a rule that does, such as multi_krum"
        )
    return ""


def mixing_comes_before_a_robust_rule(keys: Keys) -> str:
    """A mean of mixes bears no liar: every update is its own nearest neighbour, so what a liar sends is in its own."""
    aggregation = keys.aggregation
    if aggregation.pre_aggregation == "nnm" and aggregation.rule == "mean" and aggregation.method != "scaffold":
        return (
            "aggregation.pre_aggregation is nnm: before the rule mean it guards against nothing, for the mean takes a "
            "liar's own mix as it takes any other; take a robust rule after it, such as trimmed_mean, or leave it out"
        )
    return ""


def distances_have_room(keys: Keys) -> str:
    """A round has no more updates than their distances from each other have room for."""
    aggregation, most = keys.aggregation, keys.roster.nodes_max
    mixes = aggregation.pre_aggregation == "nnm"
    if not (mixes or aggregation.rule in DISTANCE_RULES):
        return ""
    if drawn_of(keys.round.fraction, most) <= DISTANCE_UPDATES_MAX:
        return ""
    who = "mixing" if mixes else f"the rule {aggregation.rule}"
    return (
        f"roster.nodes_max is {most}: {who} compares every two updates, and has room for {DISTANCE_UPDATES_MAX} in a "
        "round; lower it or round.fraction, or take the rule median or trimmed_mean"
    )


def clipping_has_its_norm(keys: Keys) -> str:
    """Clipping to a norm takes one, and nothing else does."""
    aggregation = keys.aggregation
    if aggregation.clip == "norm" and aggregation.clip_norm is None:
        return "aggregation.clip is norm: it takes aggregation.clip_norm too"
    if aggregation.clip != "norm" and aggregation.clip_norm is not None:
        return f'aggregation.clip_norm is {aggregation.clip_norm}: it belongs to aggregation.clip = "norm"'
    return ""


def a_radius_has_a_centre(keys: Keys) -> str:
    """Only centred clipping has a radius."""
    aggregation = keys.aggregation
    if aggregation.clip_radius is not None and aggregation.rule != "centred_clipping":
        return (
            f'aggregation.clip_radius is {aggregation.clip_radius}: it belongs to the rule "centred_clipping"; '
            "for others there is aggregation.clip_norm"
        )
    return ""


def controls_count_whole(keys: Keys) -> str:
    """SCAFFOLD's common control is the mean of what nodes hold, so what they send is neither clipped nor mixed."""
    aggregation = keys.aggregation
    if aggregation.method == "scaffold" and (aggregation.clip, aggregation.pre_aggregation) != ("none", "none"):
        key = "clip" if aggregation.clip != "none" else "pre_aggregation"
        return (
            f'aggregation.{key} is {getattr(aggregation, key)}: aggregation.method = "scaffold" needs every update '
            "whole; leave it out, or take aggregation.screen_factor"
        )
    return ""


RULES_AGAINST_LIARS = (
    claims_do_not_outvote,
    a_cap_caps_samples,
    a_share_of_liars_has_a_use,
    mixing_comes_before_a_robust_rule,
    distances_have_room,
    clipping_has_its_norm,
    a_radius_has_a_centre,
    controls_count_whole,
)
