"""Judging an update while it comes: when its last chunk is here, little is left to be read of it.

Decides that nothing is decided before the whole is here. What is refused lies here whole, so that an auditor who asks
for it (docs/protocol.md §8.18) comes to the same judgement; and where the beginning is malformed, the whole is read
again, by the code that judges everything else.
"""

from functools import partial
from typing import TYPE_CHECKING

from node.network.bulk.arrival import Arrival
from node.seams import Trainer
from protocol.run.checkpoint import Offer

if TYPE_CHECKING:
    from aggregation.measuring import Measuring
    from aggregation.settings import CombineSettings
    from aggregation.tensors.schema import Schema
    from aggregation.updates import Bounds, Checked, Refusal, Update


class Checking:
    """The checks of one update of a model of `schema`. Give `arrival` to whoever fetches it."""

    def __init__(self, settings: "CombineSettings", schema: "Schema", trainer: Trainer) -> None:
        self._schema = settings.of_updates(schema)
        self._codec = settings.update_coding
        self._trainer = trainer
        self._with_norm = settings.bounds({}).need_norms
        self._measuring: Measuring | None = None  # its memory is taken when something comes, for many updates wait
        self._is_malformed = False
        self.arrival = Arrival(self._take)

    async def _take(self, chunks: list[bytes]) -> None:
        await self._trainer.offload(partial(self._measure, chunks))

    def _measure(self, chunks: list[bytes]) -> None:
        from aggregation.codecs.codec import MalformedCode
        from aggregation.measuring import Measuring

        if self._is_malformed:
            return
        if self._measuring is None:
            self._measuring = Measuring(self._schema, self._codec, with_norm=self._with_norm)
        try:
            for chunk in chunks:
                self._measuring.take(chunk)
        except MalformedCode:
            self._is_malformed = True
            self._measuring = None

    def judge(self, bounds: "Bounds", update: "Update") -> "Checked | Refusal":
        """What `check_update` says of the whole. Blocks; nothing may come any more."""
        from aggregation.updates import check_update

        measuring, self._measuring = self._measuring, None
        return check_update(self._schema, self._codec, bounds, update, measuring)


def why_not_fetched(offer: Offer, codec: str, size: int) -> tuple[str, str] | None:
    """Why an update is refused for what its offer says of its bytes: a code and a sentence. `codec` and `size` are what
    the run makes them."""
    if offer.codec != codec:
        return "wrong-codec", f"it is said to be in {offer.codec!r}; the run's updates are in {codec}"
    if offer.update_bytes != size:
        return "update-length", f"it is said to have {offer.update_bytes} bytes; the schema in {codec} makes {size}"
    return None
