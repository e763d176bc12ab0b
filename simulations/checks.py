"""What a scenario expects of its outcome, compared with what came of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from simulations.plan.faults import cohorts_of, numbers_of
from simulations.plan.scenario import Scenario
from simulations.play import Played, told_faults


@dataclass(frozen=True, slots=True)
class Check:
    """`text` says what was expected and what was found."""

    name: str
    holds: bool
    text: str


def check(scenario: Scenario, nodes: int, rounds: int, played: Played) -> list[Check]:
    """Every check of the scenario, and first of all that no invariant was violated."""
    violation = played.violation
    found = "none violated" if violation is None else f"{violation.rule}: {violation.what}"
    return [Check("invariants", violation is None, found), *_checks(scenario, nodes, rounds, played)]


def _checks(scenario: Scenario, nodes: int, rounds: int, played: Played) -> Iterator[Check]:
    wanted = scenario.checks
    if wanted.outcome != "any":
        ended = played.outcome.lower() == wanted.outcome
        yield Check("outcome", ended, f"the run is {played.outcome.lower()}; expected {wanted.outcome}")
    if wanted.accuracy_min is not None and rounds >= (wanted.rounds_min or 0):  # in fewer, --rounds, less is learned
        reached = played.accuracy or 0.0
        yield Check("accuracy_min", reached >= wanted.accuracy_min, f"{reached:.3f}; at least {wanted.accuracy_min}")
    if wanted.rounds_min is not None:
        least = min(wanted.rounds_min, rounds)  # --rounds may ask for fewer
        yield Check("rounds_min", played.rounds_committed >= least, f"{played.rounds_committed}; at least {least}")
    if wanted.elections_max is not None:
        few = played.elections <= wanted.elections_max
        yield Check("elections_max", few, f"{played.elections} reigns; at most {wanted.elections_max}")
    if wanted.virtual_s_max is not None:
        soon = played.virtual_s <= wanted.virtual_s_max
        yield Check("virtual_s_max", soon, f"{played.virtual_s:.1f} s; at most {wanted.virtual_s_max:.1f} s")
    if wanted.commit_within_s is not None:
        yield _commit_within(wanted.commit_within_s, played)
    if wanted.refused:
        yield _refused(scenario, nodes, played)
    if wanted.out is not None:
        out = _named(scenario, nodes, wanted.out)
        refused = [told for told, why in zip(told_faults(played), played.fault_refusals, strict=False) if why]
        why = "".join(f"; {told}" for told in refused)
        yield Check("out", played.out == out, f"{_names(played.out)}; expected {_names(out)}{why}")
    if wanted.members is not None:
        same = played.members == wanted.members
        yield Check("members", same, f"{played.members} in the group; expected {wanted.members}")
    if wanted.deposed:
        liars = _named(scenario, nodes, wanted.deposed) & played.lied  # whose turn to aggregate came
        yield Check("deposed", liars <= played.deposed, f"{_names(played.deposed)}; who lied: {_names(liars)}")


def _commit_within(limit_s: float, played: Played) -> Check:
    """The longest wait for a commit after faults had ended and before others began."""
    longest = 0.0
    last = max((at for at, _ in played.commits), default=0.0)
    for end in played.fault_ends:
        following = min((at for at, _ in played.commits if at > end), default=None)
        disturbed = min((at for at in played.fault_begins if at > end), default=float("inf"))
        until = following if following is not None else end + limit_s + 1.0
        if end <= last and until <= disturbed:
            longest = max(longest, until - end)
    return Check(
        "commit_within_s", longest <= limit_s, f"after {longest:.1f} s at the longest; at most {limit_s:.1f} s"
    )


def _refused(scenario: Scenario, nodes: int, played: Played) -> Check:
    wanted = _named(scenario, nodes, scenario.checks.refused)
    code = scenario.checks.refused_as
    refused = {number for number, codes in played.refused.items() if not code or code in codes}
    right = refused == wanted if scenario.checks.only_refused else wanted <= refused
    codes = sorted({code for codes in played.refused.values() for code in codes})
    return Check("refused", right, f"{_names(refused)} ({', '.join(codes) or 'no reason'}); expected {_names(wanted)}")


def _named(scenario: Scenario, nodes: int, names: Iterable[str]) -> set[int]:
    cohorts = cohorts_of(scenario, nodes)
    return {number for name in names for number in numbers_of(name, cohorts, nodes)}


def _names(numbers: Iterable[int]) -> str:
    return ", ".join(f"node-{number}" for number in sorted(numbers)) or "nobody"
