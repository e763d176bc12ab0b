"""What the demo runs, what comes of it, and how that is put: values and sentences, without processes or screens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# A kind draw of the shares. How well training together does depends on who holds what: over 60 draws for four nodes the
# common model ended 3 points below pooled training in the middle, and more than 4 in every fourth; here they end level.
# Training draws from seed and data alone, so every demo of as many nodes gives the same figures.
SEED = 45
RUN = "demo"
SHARES_ALPHA = 0.5  # of the Dirichlet draw: most nodes hardly know half of the digits
TRAINING = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9}
CODEC = "bf16"  # whoever trains alone rounds so too
ROWS_MAX = 30  # of the table; longer runs show rounds at equal distances
_BLOCKS = "▁▂▃▄▅▆▇█"

# What a participant does, in a newcomer's words.
DOINGS = {
    "INVITED": "is asked to take part",
    "READY": "is ready",
    "TRAINING": "trains on its own digits",
    "UPLOADING": "hands over what it learned",
    "WAITING": "waits for the others",
    "LOST": "is not heard of",
    "FINISHED": "has finished",
    "FAILED": "has failed",
}


def configuration(nodes: int, rounds: int, codec: str = CODEC) -> str:
    """The run's configuration, as somebody would write it into study.toml."""
    training = "".join(f"{key} = {value}\n" for key, value in TRAINING.items())
    return (
        f'name = "{RUN}"\nproject = "{RUN}"\nseed = {SEED}\n'
        f'[task]\nname = "digits"\n[data]\nname = "digits"\n'
        f"[training]\nrounds = {rounds}\n{training}[roster]\nnodes_min = {nodes}\n"
        f'[aggregation]\ncodec = "{codec}"\n'
    )


@dataclass(slots=True)
class Curves:
    """Shares of held-out digits told right, by round, 0 to 1: trained together, each alone (mean), on all data."""

    together: dict[int, float] = field(default_factory=dict)
    alone: dict[int, float] = field(default_factory=dict)
    pooled: dict[int, float] = field(default_factory=dict)

    def are_complete(self, rounds: int) -> bool:
        return all(curve.keys() >= set(range(1, rounds + 1)) for curve in (self.together, self.alone, self.pooled))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `--json` prints. Accuracies are 0 to 1, or None without training; `first` is after the first round.
    `bytes_per_round`: sent by all nodes together from the proposal to the last commit, by the rounds."""

    run: str | None
    nodes: int
    rounds_committed: int
    aggregator: str | None
    accuracy_first: float | None
    accuracy_final: float | None
    accuracy_alone: float | None
    accuracy_pooled: float | None
    elections: int
    codec: str
    bytes_per_round: int
    seconds: float
    homes: list[str]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def outcome_of(
    run: dict[str, Any] | None,
    curves: Curves,
    *,
    nodes: int,
    seconds: float,
    homes: Sequence[Path],
    codec: str = CODEC,
    bytes_trained: int = 0,
) -> Outcome:
    """`run`: as the API gives it, or None when nothing was trained."""
    last = run["round"] if run else 0
    return Outcome(
        run=run["run_id"] if run else None,
        nodes=nodes,
        rounds_committed=last,
        aggregator=run["aggregator_name"] if run else None,
        accuracy_first=rounded(curves.together.get(1)),
        accuracy_final=rounded(curves.together.get(last)),
        accuracy_alone=rounded(curves.alone.get(last)),
        accuracy_pooled=rounded(curves.pooled.get(last)),
        elections=run["elections"] if run else 0,
        codec=codec,
        bytes_per_round=bytes_trained // last if last else 0,
        seconds=round(seconds, 2),
        homes=[str(home) for home in homes],
    )


def rounded(accuracy: float | None) -> float | None:
    """To what 359 held-out digits can tell apart, with room."""
    return None if accuracy is None else round(accuracy, 4)


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference between two shares: 31.2 points."""
    count = f"{100 * abs(difference):.1f}"
    return f"{count} point" if count == "1.0" else f"{count} points"


def spark(values: Sequence[float]) -> str:
    """A block for each value, from nothing to 1."""
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[min(last, max(0, round(value * last)))] for value in values)


def shown_rounds(rounds: int) -> list[int]:
    """The rounds that the table shows: all, or ROWS_MAX from the first to the last."""
    if rounds <= ROWS_MAX:
        return list(range(1, rounds + 1))
    return sorted({1 + round(place * (rounds - 1) / (ROWS_MAX - 1)) for place in range(ROWS_MAX)})


def verdict(outcome: Outcome) -> str:
    """What the figures say, in a sentence or two."""
    final, alone, pooled = outcome.accuracy_final, outcome.accuracy_alone, outcome.accuracy_pooled
    if final is None or alone is None or pooled is None:
        return ""
    gain, gap = final - alone, pooled - final
    better = "better" if gain >= 0 else "worse"
    if abs(gap) < 0.0005:
        against = "exactly as good as"
    else:
        against = f"{points(gap)} {'short of' if gap > 0 else 'better than'}"
    return (
        f"Together: {points(gain)} {better} than alone, and {against} one model "
        "trained on everybody's data in one place. Nobody's data left its node."
    )


def steps_to_look_further(keep: Path | None, *, trained: bool) -> list[tuple[str, str]]:
    """Commands, each with what it is for. `keep` as it was typed."""
    home = (keep or Path("demo")) / "node-0"
    steps = [
        (f"fednode start --home {home} --detach", "starts a node again"),
        (f"fednode tui --home {home}", "a dashboard"),
        *([(f"fednode run metrics {RUN} --home {home}", "round by round")] if trained else []),
    ]
    return steps if keep else [("fednode demo --keep demo", "keeps the homes; then:"), *steps]
