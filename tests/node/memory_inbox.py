"""An inbox that keeps everything in memory, for tests of the API and of the commands."""

from typing import Any

from node.api.service.service import NotFound
from protocol.errors import Refused

Json = dict[str, Any]


def item_json(item_id: str, **changes: Any) -> Json:
    facts = {"kind": "joiner", "time": "2026-01-01T00:00:00Z", "title": "Bo came into study as member"}
    facts |= {"text": "Ann has admitted Bo.", "run_id": "", "node_id": "", "group_id": "", "needs": "look"}
    return {"id": item_id, **facts, "actions": ["seen"], **changes}


class MemoryInbox:
    """A proposal and a joiner."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls
        asks = {"kind": "proposal", "needs": "answer", "run_id": "cd" * 32, "title": "Run study waits for your answer"}
        self.all = [item_json("proposal-cdcd", **asks), item_json("joiner-1")]

    async def items(self) -> list[Json]:
        return self.all

    async def seen(self, item_id: str) -> None:
        self._calls.append(("seen", item_id))
        found = [each for each in self.all if each["id"] == item_id]
        if not found:
            raise NotFound("no-such-item", f"The inbox has no item {item_id!r}", remedy="see fednode inbox list")
        if found[0]["needs"] == "answer":
            raise Refused("needs-answer", "It must be answered", remedy="fednode run accept study")
        self.all.remove(found[0])

    async def proposal(self, run: str) -> Json:
        self._calls.append(("proposal", run))
        return {"run_id": "cd" * 32, "name": run, "configuration": {"training.rounds": 10}, "differences": []}
