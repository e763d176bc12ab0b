"""What several runs were given, where that differs, and what came of them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tui.facts.asks import Ask, asking
from tui.facts.choice import Choice
from tui.facts.curves import Curves, CurveSet, Kind
from tui.facts.parameters import ABSENT, Parameters, parameters_of
from tui.facts.run_list import Order, in_order, page_of
from tui.facts.runs import Round, Run, rounds_of
from tui.facts.state import State

COMPARED_UNASKED = 4  # runs that are put side by side when none is marked
LEAST = 2  # fewer cannot be compared
MEANS_ASKED = 20_000  # figures: 10,000 rounds of two kinds
# The newest that have finished, which need not be among those that events tell of.
FINISHED_ASK = asking("runs", state="FINISHED", brief=True, limit=COMPARED_UNASKED)


@dataclass(frozen=True, slots=True)
class Compared:
    """One run with what was asked about it; None where the answer is not there."""

    run: Run
    parameters: Parameters | None
    rounds: tuple[Round, ...] | None

    @property
    def round_seconds(self) -> float | None:
        """The median time of a round."""
        known = [each.seconds for each in self.rounds or () if each.seconds]
        return median(known) if known else None

    @property
    def bytes(self) -> int | None:
        return None if self.rounds is None else sum(each.bytes for each in self.rounds)

    @property
    def refused(self) -> int | None:
        return None if self.rounds is None else sum(len(each.refused) for each in self.rounds)


def runs_to_compare(state: State, choice: Choice) -> list[Run]:
    """The marked runs in the order of marking; without two of them the newest finished ones, else those started."""
    marked = [run for run_id in choice.marked if (run := state.run(run_id)) is not None]
    if len(marked) >= LEAST:
        return marked
    told = state.answers.read(FINISHED_ASK, page_of)
    listed = [run for run_id in (told.run_ids if told else ()) if (run := state.run(run_id)) is not None]
    known = {run.run_id: run for run in (*state.runs(), *listed) if run.run_id not in choice.marked}
    runs = in_order(known.values(), Order())
    finished = [run for run in runs if run.state == "FINISHED"]
    started = [run for run in runs if run.started_at and run.state != "FINISHED"]
    return [*marked, *finished, *started][:COMPARED_UNASKED]


def run_ask(run_id: str) -> Ask:
    return asking("runs", run_id)


def rounds_ask(run_id: str) -> Ask:
    return asking("runs", run_id, "rounds")


def means_ask(run_id: str) -> Ask:
    """The means over the nodes of what was measured of each round's checkpoint, and nothing else."""
    return asking("runs", run_id, "metrics", node="", scope="global", limit=MEANS_ASKED)


def compared(state: State, runs: Sequence[Run]) -> list[Compared]:
    """The runs with what the answers tell of them."""
    answers = state.answers
    return [
        Compared(
            run,
            answers.read(run_ask(run.run_id), parameters_of),
            answers.read(rounds_ask(run.run_id), rounds_of) if answers.known(rounds_ask(run.run_id)) else None,
        )
        for run in runs
    ]


def differing(given: Sequence[Parameters]) -> dict[str, list[str]]:
    """Parameters that are not the same in all, each with its value in every run. The name, which is one's own, is no
    matter."""
    keys = dict.fromkeys(key for parameters in given for key in parameters if key != "name")
    lined_up = {key: [parameters.get(key, ABSENT) for parameters in given] for key in sorted(keys)}
    return {key: values for key, values in lined_up.items() if len(set(values)) > 1}


def names_of(runs: Sequence[Run]) -> dict[str, str]:
    """A letter and the name for each run; of those of one name, also the beginning of the id."""
    names = [run.name for run in runs]
    return {
        run.run_id: f"{chr(ord('A') + at)} {run.name}{f' {run.run_id[:6]}' if names.count(run.name) > 1 else ''}"
        for at, run in enumerate(runs)
    }


def kinds_of(curves: Sequence[Curves]) -> list[Kind]:
    """The kinds of curve about shared models that any of the runs has, the most telling first."""
    found = dict.fromkeys(kind for each in curves for kind in each.kinds() if kind.scope == "global")
    return list(found)


def overlaid(kind: Kind, curves: Mapping[str, Curves]) -> CurveSet:
    """The mean curve of each run, by the run's id, as one set: it has no mean of its own."""
    means = {run_id: each.of(kind).mean for run_id, each in curves.items() if kind in each.kinds()}
    return CurveSet(kind, {run_id: points for run_id, points in means.items() if points}, [])
