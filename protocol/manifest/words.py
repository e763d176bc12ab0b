"""What a configuration means, in words for people: how updates are combined, and how many liars its rule will bear.

Decides nothing: the rules themselves assume as many liars (aggregation.rules: coordinates, gram_rules).
"""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from protocol.manifest.defences import KRUM_RULES, asks_for_a_share, byzantine_count
from protocol.manifest.sections import Aggregation, Keys
from protocol.run.voters import drawn_of

_NOT_GIVEN = (None, "", "null", "None")  # a record keeps what was left out as text


def aggregation_in(configuration: Mapping[str, Any]) -> Aggregation | None:
    """[aggregation] of a configuration by dotted keys; None where there is none that this fednode can read, as in a run
    that came from elsewhere."""
    given = {
        key: value
        for key in Aggregation.model_fields
        if (value := configuration.get(f"aggregation.{key}")) not in _NOT_GIVEN
    }
    if not given:
        return None
    try:
        return Aggregation.model_validate(given)
    except ValidationError:
        return None


def dotted(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest's tables by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in manifest.items():
        found |= {f"{key}.{leaf}": entry for leaf, entry in value.items()} if isinstance(value, dict) else {key: value}
    return found


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What stands in a table and in all tables within it, by dotted keys; what was not given is left out."""
    for key, entry in table.items():
        if isinstance(entry, Mapping):
            yield from leaves(entry, f"{prefix}{key}.")
        elif entry is not None:
            yield f"{prefix}{key}", entry


def how_words(configuration: Mapping[str, Any]) -> str:
    """How a run combines, in a line: `trimmed_mean 0.2 · int8 · adam 0.05 · audit full`. "" where it cannot be read."""
    keys = aggregation_in(configuration)
    if keys is None:
        return ""
    share = f" {keys.byzantine_share:g}" if asks_for_a_share(keys) else ""
    said = [f"nnm, then {keys.rule}{share}" if keys.pre_aggregation == "nnm" else f"{keys.rule}{share}", keys.codec]
    if keys.checkpoint_codec is not None and keys.checkpoint_codec != keys.codec:
        said.append(f"checkpoints {keys.checkpoint_codec}")
    if keys.method != "fedavg":
        said.append(keys.method)
    if (mu := configuration.get("training.proximal_mu")) not in (*_NOT_GIVEN, 0):
        said.append(f"fedprox {mu}")
    if keys.clip != "none":
        said.append(f"clip {keys.clip}" + ("" if keys.clip_norm is None else f" {keys.clip_norm:g}"))
    if keys.screen_factor is not None:
        said.append(f"screen {keys.screen_factor:g}")
    if keys.server_optimizer == "momentum":  # whose one figure people take for the momentum
        said.append(
            f"momentum {keys.server_momentum:g}" + ("" if keys.server_rate == 1 else f" rate {keys.server_rate:g}")
        )
    elif keys.server_optimizer != "none":
        said.append(f"{keys.server_optimizer} {keys.server_rate:g}")
    audit = configuration.get("audit") or "none"
    return " · ".join([*said, "no audit" if audit == "none" else f"audit {audit}"])


def liars_borne(keys: Aggregation, updates: int) -> int:
    """How many liars among `updates` the run's rule can outvote. None with the mean, which guards against nobody."""
    most = max(0, (updates - 1) // 2)
    if keys.rule in KRUM_RULES:
        most = max(0, (updates - 3) // 2)  # n ≥ 2f + 3
    if keys.rule == "mean":
        most = 0
    return min(most, byzantine_count(keys.byzantine_share, updates)) if asks_for_a_share(keys) else most


def liars_lack(keys: Aggregation, updates: int) -> str:
    """A sentence where a rule that is to bear liars bears none, or fewer than it was asked to, of so many updates, and
    what to do; "" where it bears them, or where nobody asked."""
    if keys.rule == "mean" and keys.pre_aggregation == "none":
        return ""
    borne = liars_borne(keys, updates)
    wanted = byzantine_count(keys.byzantine_share, updates) if asks_for_a_share(keys) else 0
    if borne >= max(1, wanted):
        return ""
    rule = how_words({f"aggregation.{key}": value for key, value in keys.model_dump().items()}).split(" · ")[0]
    said = f"of {counted(updates, 'update')} {rule} bears {counted(borne, 'liar')}"
    return f"{said}{_why(keys, updates, wanted)}; {_remedy(keys, updates)}"


def _why(keys: Aggregation, updates: int, wanted: int) -> str:
    if asks_for_a_share(keys) and not wanted:
        plain = ", and it is a plain mean" if keys.rule != "krum" and updates else ""
        return f", as aggregation.byzantine_share = {keys.byzantine_share:g} of {updates} is less than one{plain}"
    if keys.rule in KRUM_RULES and wanted:
        return f", as {counted(wanted, 'liar')} would take {2 * wanted + 3} updates"
    return ""


def _remedy(keys: Aggregation, updates: int) -> str:
    if updates < 3:
        return "no rule can tell a liar among fewer than three: let more nodes take part"
    if keys.rule == "mean":
        return f'take the rule "median", which bears {(updates - 1) // 2}; before the mean, nnm guards against nobody'
    alone = " without pre_aggregation" if keys.pre_aggregation == "nnm" else ""
    median = f'the rule "median"{alone}, which bears {(updates - 1) // 2}'
    least = math.ceil(Fraction(100, updates)) / 100
    if liars_borne(keys.model_copy(update={"byzantine_share": least}), updates) > liars_borne(keys, updates):
        return f"take aggregation.byzantine_share = {least:g}, which bears 1, or {median}"
    return f"let more nodes take part, or take {median}"


def counted(count: int, thing: str) -> str:
    """1 liar, 2 liars, no liar."""
    return f"{count or 'no'} {thing}" + ("s" if count > 1 else "")


def updates_expected(keys: Keys, nodes: int) -> int:
    """How many updates a round has with so many nodes of which all take part, but for those that do not train."""
    others = sum(1 for role in keys.roster.roles.values() if role != "trainer")
    return drawn_of(keys.round.fraction, min(nodes, keys.roster.nodes_max) - others)


def liars_words(keys: Keys, nodes: int) -> str:
    """How many liars the rule will bear: with as many nodes as a run starts with at least, and with all `nodes` of its
    group. "" with the mean."""
    if keys.aggregation.rule == "mean" and keys.aggregation.pre_aggregation == "none":
        return ""
    least = updates_expected(keys, keys.roster.nodes_min)
    most = updates_expected(keys, max(nodes, keys.roster.nodes_min))
    told = [f"{liars_borne(keys.aggregation, count) or 'none'} of {count}" for count in dict.fromkeys((least, most))]
    return "liars borne: " + ", ".join(told)


def liars_warning(keys: Keys, nodes: int) -> str:
    """What of it somebody should know before they propose: see `liars_lack`."""
    least = updates_expected(keys, keys.roster.nodes_min)
    most = updates_expected(keys, max(nodes, keys.roster.nodes_min))
    said = liars_lack(keys.aggregation, least)
    if not said or most == least:
        return said
    if liars_lack(keys.aggregation, most):
        return liars_lack(keys.aggregation, most)
    return f"{said}. With {most}, when all of the group take part, it bears {liars_borne(keys.aggregation, most)}"
