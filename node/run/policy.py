"""What this node's owner has decided once and for all, kept over restarts: which proposals it accepts by itself, and
which lines of a run's log others in the run may read.

A rule is `all`, `mine` (proposals of the owner's own nodes), `task:NAME` (a built-in task, from anybody in the group)
or `proposer:ID` (a member or node). What no rule covers waits for the owner.
"""

from typing import get_args

import msgpack

from node.api.service.service import LogPolicy
from node.seams import Disk
from protocol.errors import Refused
from protocol.keys import MemberId, NodeId
from protocol.manifest.manifest import Manifest

_FILE = "policy"
_LOGS_FILE = "log-policy"
_RULES_MAX = 256  # people write them by hand
DEFAULT_RULES = ("mine",)
LOG_POLICIES: tuple[LogPolicy, ...] = get_args(LogPolicy)
_KINDS = ("all", "mine", "task:", "proposer:")


class Policy:
    """The owner's rules, in memory and on the disk."""

    def __init__(self, disk: Disk, member: MemberId) -> None:
        self.rules: tuple[str, ...] = DEFAULT_RULES
        self.logs: LogPolicy = "none"
        self._disk = disk
        self.owner = member

    async def load(self) -> None:
        raw = await self._disk.read(_FILE)
        if raw is not None:
            self.rules = tuple(str(rule) for rule in msgpack.unpackb(raw))
        logs = await self._disk.read(_LOGS_FILE)
        self.logs = next((policy for policy in LOG_POLICIES if policy.encode() == logs), "none")

    async def set_logs(self, policy: LogPolicy) -> None:
        """From now on, for answers under way too."""
        await self._disk.write(_LOGS_FILE, policy.encode())
        self.logs = policy

    async def set(self, rules: tuple[str, ...]) -> None:
        """Replace all rules. Raises Refused for one that is none."""
        for rule in rules:
            if not any(
                rule == kind or (kind.endswith(":") and rule.startswith(kind) and rule != kind) for kind in _KINDS
            ):
                raise Refused(
                    "bad-policy",
                    f"{rule!r} is no rule for accepting runs",
                    remedy="use all, mine, task:NAME or proposer:ID",
                )
        if len(rules) > _RULES_MAX:
            raise Refused("bad-policy", f"{len(rules)} rules are too many", remedy=f"keep to {_RULES_MAX}")
        self.rules = rules
        await self._disk.write(_FILE, msgpack.packb(list(rules)))

    def accepts(self, manifest: Manifest, proposer: NodeId, member: MemberId) -> bool:
        """Whether a rule covers this proposal. A task from a file is code of somebody's: only who is trusted by name,
        or everybody, may have it run here."""
        wanted = {"all", f"proposer:{proposer}", f"proposer:{member}"}
        if manifest.task.name is not None:
            wanted.add(f"task:{manifest.task.name}")
        if member == self.owner:
            wanted.add("mine")
        return not wanted.isdisjoint(self.rules)
