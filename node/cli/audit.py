"""fednode run audit: whether a run's committed rounds are what their updates give."""

from collections import Counter
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

    The node takes updates from its own disk, and from the aggregator and their authors where the run's configuration
    lets it read them (updates.readers = "members", or an audit). Updates are kept for a round or two. Exit code 0
    when all that could be recomputed agrees, 1 when a round differs, 4 when no round could be recomputed.

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
    show.table(["ROUND", "AGGREGATOR", "USED", "REFUSED", "RECOMPUTED", "WHY"], [_row(each) for each in rounds])
    count = Counter(each["verdict"] for each in rounds)
    said = [f"{count[verdict]} {words}" for verdict, words in _SUMS.items() if count[verdict]]
    answer.hint(", ".join(said) + ".")


_SUMS = {"agrees": "agree, bit for bit", "differs": "differ", "unknown": "cannot be said"}


def _row(each: dict[str, Any]) -> list[object]:
    return [
        each["round"],
        each["aggregator_name"] or show.node(each["aggregator"]),
        each["updates_used"],
        each["updates_refused"],
        _WORDS.get(each["verdict"], each["verdict"]),
        each["why"],
    ]
