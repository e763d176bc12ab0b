"""Which rounds of a run the record has, and when each was committed."""

from dataclasses import dataclass
from datetime import datetime

from node.seams import Record
from protocol.keys import RunId


@dataclass(frozen=True, slots=True)
class RecordedRound:
    """`committed_at`: seconds since 1970. `seconds`: since the commit before, 0 where that is not known."""

    committed_at: float
    seconds: float
    bytes: int


async def recorded_rounds(record: Record, run: RunId, **bounds: int) -> dict[int, RecordedRound]:
    """By their numbers, as far as they were flushed. `bounds`: those of the query, `after_round` and `before_round`."""
    return {
        row["round"]: RecordedRound(
            datetime.fromisoformat(row["committed_at"]).timestamp(), row["seconds"], row["bytes"]
        )
        for row in await record.query("rounds", run_id=run, **bounds)
    }
