"""A run's whole configuration: what the proposer signs and everybody else trains by.

`Configuration` is what a person writes, `Manifest` what goes into the group's log: the same keys
(protocol.manifest.sections), but names are resolved to ids and a task's file is named by its hash.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from protocol.errors import Refused
from protocol.fields import HashOrEmpty, Name
from protocol.keys import Hash
from protocol.limits import NAME_CHARACTERS_MAX
from protocol.manifest.rules import RULES, TASK_RULES, base_name
from protocol.manifest.sections import Keys, Roster, RunRole, TaskKeys, TaskReference
from protocol.wire import pack, unpack

MANIFEST_BYTES_MAX = 32 * 1024  # a fourth of an operation: tags, parameters and roles at their limits fit
CONFLICT = "conflict"  # pydantic's type of error for a broken rule over several keys; its context lists `problems`


class _CheckedKeys(Keys):
    """Keys that fit together."""

    def broken_rules(self) -> list[str]:
        """A sentence for each rule over several keys that these break."""
        return [problem for rule in RULES if (problem := rule(self))]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = self.broken_rules()
        if problems:
            raise PydanticCustomError(CONFLICT, "{text}", {"text": "; ".join(problems), "problems": problems})
        return self


class Configuration(_CheckedKeys):
    """What a person writes."""

    name: Name = Field(default="", description="what people call the run; left out: the name of this file")
    parent: Annotated[str, Field(max_length=NAME_CHARACTERS_MAX)] = Field(
        default="", description="a run, by name or id, from whose last checkpoint this one starts"
    )
    task: TaskKeys

    def broken_rules(self) -> list[str]:
        return [problem for rule in TASK_RULES if (problem := rule(self.task))] + super().broken_rules()

    def manifest(
        self, *, task_hash: str = "", parent: str = "", roles: Mapping[str, RunRole] | None = None
    ) -> "Manifest":
        """The manifest, once the caller has read the task's file and looked up what names stand for.

        Args:
            task_hash: BLAKE3, in hex, of the file at `task.path`; ignored for a built-in task.
            parent: the whole id of the run that `self.parent` names.
            roles: `self.roster.roles` by node id.

        Raises:
            Refused: the whole is longer than MANIFEST_BYTES_MAX.
        """
        path = self.task.path
        task = TaskReference(
            name=self.task.name,
            file=None if path is None else base_name(path),
            hash=None if path is None else Hash(task_hash),
            parameters=self.task.parameters,
        )
        shared = {key: getattr(self, key) for key in Keys.model_fields}
        shared["roster"] = Roster(**{**self.roster.model_dump(), "roles": dict(roles or {})})
        manifest = Manifest(**shared, name=self.name, parent=Hash(parent), task=task)
        size = len(pack(manifest))
        if size > MANIFEST_BYTES_MAX:
            raise Refused(
                "bad-manifest",
                f"The configuration takes {size:,} bytes and {MANIFEST_BYTES_MAX:,} are allowed",
                remedy="shorten tags, parameters or roles; what is long belongs into the task's file",
            )
        return manifest


class Manifest(_CheckedKeys):
    """What the group's log holds: everything that decides the run's outcome, but for the data."""

    name: Name
    parent: HashOrEmpty = Hash("")
    task: TaskReference


def unpack_manifest(raw: bytes) -> Manifest:
    """A manifest from somebody else. Raises RemoteProtocolError when it is too long or does not fit."""
    return unpack(Manifest, raw, MANIFEST_BYTES_MAX)
