"""fednode run audit: whether a run's committed rounds are what their updates give."""

from collections import Counter
from itertools import groupby
from typing import Any

import click

from node.cli import show
from node.cli.common import EXIT_FAILED, EXIT_REFUSED, Answer, common_options

_WORDS = {"agrees": "agrees", "differs": "DIFFERS", "unknown": "cannot be said"}


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--round", "round_number", type=click.IntRange(1), help="This one alone, and ask others for its updates.")
@common_options
@click.pass_obj
def audit(answer: Answer, run_name: str, round_number: int | None) -> int:
    """Recompute RUN's committed rounds from the updates that are still to be had, and compare every bit.

    A run can be audited afterwards only if it was proposed with audit = "spot" or "full", or with updates.readers =
    "members": else its updates are the aggregator's alone, and go when their round is committed. With these they are
    kept until the next round is committed, so it is the newest round that can be recomputed. The node takes them
    from its own disk, the aggregator and their authors. Exit code 0 when all that could be recomputed agrees, 1 when a
    round differs, 4 when no round could be recomputed.

    \b
    Examples:
      fednode run audit study
      fednode run audit study --round 7
    """
    told = answer.client().audit_run(run_name, round_number)
    if answer.json:
        answer.give(told, "")
    else:
        _show(answer, told["rounds"])
    found = {each["verdict"] for each in told["rounds"]}
    if "differs" in found:
        return EXIT_FAILED
    return 0 if "agrees" in found else EXIT_REFUSED


def _show(answer: Answer, rounds: list[dict[str, Any]]) -> None:
    alike = [list(group) for _, group in groupby(rounds, key=_told_together)]
    show.table(["ROUND", "AGGREGATOR", "USED", "REFUSED", "RECOMPUTED", "WHY"], [_row(each) for each in alike])
    count = Counter(each["verdict"] for each in rounds)
    said = [f"{count[verdict]} {words}" for verdict, words in _SUMS.items() if count[verdict]]
    answer.hint(", ".join(said) + ".")


_SUMS = {"agrees": "agree, bit for bit", "differs": "differ", "unknown": "cannot be said"}


def _told_together(each: dict[str, Any]) -> object:
    """Rounds in a row of which the same cannot be said are one row; all others have a row of their own."""
    return (each["verdict"], each["why"] if each["verdict"] == "unknown" else each["round"])


def _row(alike: list[dict[str, Any]]) -> list[object]:
    newest, oldest = alike[0], alike[-1]
    return [
        newest["round"] if len(alike) == 1 else f"{oldest['round']}-{newest['round']}",
        ", ".join(dict.fromkeys(each["aggregator_name"] or show.node(each["aggregator"]) for each in alike)),
        _span([each["updates_used"] for each in alike]),
        _span([each["updates_refused"] for each in alike]),
        _WORDS.get(newest["verdict"], newest["verdict"]),
        newest["why"],
    ]


def _span(counts: list[int]) -> str:
    """3; or 2-5, where they differ."""
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}"
