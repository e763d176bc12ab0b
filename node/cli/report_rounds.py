"""A report's rounds: what every node was busy with, each round's outcome, elections, refused updates."""

from typing import TYPE_CHECKING

from node.cli import show
from node.cli.report_told import Told, seconds_of, utc

if TYPE_CHECKING:
    from node.exports.plots import Drawing

CLOSE_ROUNDS, CLOSE_FROM_ROUNDS = 3, 8  # so many newest rounds are drawn a second time, where there are so many
SPANS_DRAWN_MAX = 6000  # more make a page of many megabytes, and bars too thin to be seen
WIDTH = 960.0
_READ_SPANS = (
    "A node has a lane, and in it a row for its own work, for the round's sum, and for what it moved; a line is "
    "waiting. A dotted line is a round's commit, a dashed one an election."
)
_READ_ROUNDS = "A bar is a round; a stripe under it: updates were refused in it. A dashed line is an election."
_NO_SPANS = "This record has no times of single nodes for this run; a bar is the time from one commit to the next."


def rounds(told: Told) -> str:
    from node.exports.report import drawings, heading, note

    made = drawings([_made(told)], wide=True) + note(_READ_ROUNDS)
    if not told.spans:
        return made + note(_NO_SPANS) + rounds_table(told)
    return (
        drawings(_gantts(told), wide=True)
        + note(_READ_SPANS)
        + heading("Seconds spent")
        + _spent(told)
        + heading("Commits")
        + made
    ) + rounds_table(told)


def _gantts(told: Told) -> "list[Drawing]":
    from node.exports.plots_spans import newest_that_fit, spans_chart

    elections = [(term, who, seconds_of(at)) for term, who, at in told.elections]
    commits = [(each["round"], seconds_of(each["committed_at"])) for each in told.rounds]
    first, newest = (most(span.round for span in told.spans) for most in (min, max))
    drawn = newest_that_fit(told.spans, SPANS_DRAWN_MAX)
    begun = min(span.round for span in drawn)
    which = f", from round {begun} on" if begun > first else ""
    charts = [
        spans_chart(drawn, elections, commits, told.names, title=f"What the nodes did, and when{which}", width=WIDTH)
    ]
    close = newest - CLOSE_ROUNDS + 1
    if newest - begun >= CLOSE_FROM_ROUNDS:
        some = [span for span in drawn if span.round >= close]
        title = f"The same from round {close} on"
        charts.append(spans_chart(some, elections, commits, told.names, title=title, width=WIDTH))
    return charts


def _spent(told: Told) -> str:
    from node.exports.plots_spans import seconds_by_name
    from node.exports.report import table

    spent = seconds_by_name(told.spans)
    what = sorted({name for mine in spent.values() for name in mine})
    nodes = sorted(spent, key=lambda node: (told.name(node), node))
    return table(["node", *what], [(told.name(node), *(spent[node].get(name) for name in what)) for node in nodes])


def _made(told: Told) -> "Drawing":
    from node.exports.plots_rounds import Made, rounds_chart

    made = [
        Made(
            *(each["round"], each["term"], each["aggregator"], seconds_of(each["committed_at"]), each["seconds"]),
            *(each["updates_used"], len(each["updates_refused"])),
        )
        for each in told.rounds
    ]
    elections = [(term, who, seconds_of(at)) for term, who, at in told.elections]
    return rounds_chart(made, elections, told.names, title="When each round was made, and by whom", width=WIDTH)


def rounds_table(told: Told) -> str:
    from node.exports.report import folded, note, table

    if not told.rounds:
        return note("No round is committed yet.")
    rows = [
        (
            *(each["round"], told.name(each["aggregator"]), each["term"], utc(each["committed_at"]), each["seconds"]),
            *(each["updates_used"], len(each["updates_refused"]), show.size(each["bytes"])),
        )
        for each in told.rounds
    ]
    columns = ["round", "aggregator", "term", "committed", "seconds", "updates used", "refused", "moved here"]
    return folded(f"All {len(rows)} rounds", table(columns, rows))


def elections(told: Told) -> str:
    from node.exports.report import note, table

    if not told.elections:
        return note("No election was seen.")
    rows = [(term, told.name(who), who, utc(at)) for term, who, at in told.elections]
    return table(["term", "elected", "id", "time"], rows, codes=[2])


def refused(told: Told) -> str:
    from node.exports.report import note, table

    rows = [
        (made["round"], told.name(each["node_id"]), each["node_id"], each["reason"])
        for made in told.rounds
        for each in made["updates_refused"]
    ]
    if not rows:
        return note("No update was refused.")
    return table(["round", "update of", "id", "why it was refused"], rows, codes=[2])
