"""From a configuration to a proposal: what proposing a run checks, and the same without proposing, for people who are
still writing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from node.api.service.service import Asked, Json, NotFound
from node.membership.group_place import GroupPlace
from node.names import id_named
from node.run.known_run import KnownRun
from protocol.errors import Refused
from protocol.group.operation_kinds import RunPropose
from protocol.manifest.aliases import ALIASES
from protocol.manifest.keys import EXAMPLES, KEYS, SECTIONS, WRITTEN_OUT, toml_value
from protocol.manifest.manifest import Configuration, Manifest
from protocol.manifest.read import ManifestError, Reading, read_configuration
from protocol.manifest.words import dotted, how_words, liars_warning, liars_words
from protocol.wire import pack

if TYPE_CHECKING:
    from node.node import Node


@dataclass(slots=True)
class _Draft:
    """What became of a configuration that is valid by itself: everything that it needs, or why not."""

    reading: Reading
    place: GroupPlace | None = None
    task: Path | None = None
    manifest: Manifest | None = None
    troubles: list[tuple[str, Refused]] = field(default_factory=list)  # by the key that they are about

    @contextmanager
    def about(self, key: str) -> Iterator[None]:
        """A no that is said in here is kept, with the key that it is about."""
        try:
            yield
        except Refused as refused:
            self.troubles.append((key, refused))


class Proposals:
    """One node's. `place_of` and `run_of` find a group and a run by what people call them; they raise NotFound."""

    def __init__(
        self, node: "Node", place_of: Callable[[str | None], GroupPlace], run_of: Callable[[str], KnownRun]
    ) -> None:
        self._node = node
        self._place_of = place_of
        self._run_of = run_of

    async def propose(self, asked: Asked) -> tuple[KnownRun, tuple[str, ...]]:
        """The proposed run, and the reading's notes. Raises Refused, of which ManifestError is one."""
        draft = await self._draft(asked)
        for _, refused in draft.troubles:
            raise refused
        assert draft.place is not None
        assert draft.manifest is not None
        if draft.task is not None:
            await self._node.task_files.register(draft.task)
        lack = liars_warning(draft.manifest, len(draft.place.state().nodes))
        notes = (*draft.reading.taken_as, *([lack] if lack else []))
        return await self._node.runs.propose(draft.place, draft.manifest), notes

    async def check(self, asked: Asked) -> Json:
        """What `propose` would say to this, in the shape of docs/api.md."""
        try:
            draft = await self._draft(asked)
        except ManifestError as error:
            problems = [{"key": _key_in(text), "what": text, "remedy": ""} for text in error.problems]
            return {"problems": problems, "taken_as": [], "manifest": None, "warnings": [], "how": ""}
        return {
            "problems": [
                {"key": key, "what": refused.what, "remedy": refused.remedy} for key, refused in draft.troubles
            ],
            "taken_as": list(draft.reading.taken_as),
            "manifest": draft.manifest and draft.manifest.model_dump(mode="json"),
            "warnings": [] if draft.place is None else self._warnings(draft.reading.configuration, draft.place),
            "how": _how(draft.reading.configuration, draft.place),
        }

    async def _draft(self, asked: Asked) -> _Draft:
        draft = _Draft(read_configuration(asked.config, source=asked.source or "", overrides=asked.overrides))
        configuration = draft.reading.configuration
        task_hash = parent = ""
        roles = {}
        with draft.about("group"):
            draft.place = self._place_of(asked.group)
        if draft.place is not None:
            with draft.about("roster.roles"):
                wanted = configuration.roster.roles
                roles = {node_named(draft.place, name): role for name, role in wanted.items()}
        if configuration.task.path is not None:
            folder = Path(asked.source).parent if asked.source else Path.cwd()
            with draft.about("task.path"):
                draft.task = folder / configuration.task.path
                task_hash = await self._node.task_files.hash_of(draft.task)
        if configuration.parent:
            with draft.about("parent"):
                parent = self._run_of(configuration.parent).run_id
        if draft.place is not None and not draft.troubles:
            with draft.about(""):
                manifest = configuration.manifest(task_hash=task_hash, parent=parent, roles=roles)
                draft.place.check(RunPropose(manifest=pack(manifest)), self._node.now())
                draft.manifest = manifest
        return draft

    def _warnings(self, configuration: Configuration, place: GroupPlace) -> list[str]:
        """What would keep the run from going as its proposer may expect."""
        node, state = self._node, place.state()
        said = []
        data, role = configuration.data.name, configuration.roster.roles.get(node.identity.name, "trainer")
        if role == "trainer" and node.data_sets.find(data) is None:
            said.append(f"this node has no data set {data!r}, and takes no part before fednode data add {data} PATH")
        wanted = configuration.roster.nodes_min
        here = 1 + sum(1 for peer in node.groups.connected if peer in state.nodes)
        if wanted > len(state.nodes):
            said.append(f"it waits for {wanted} nodes, and {state.name} has {len(state.nodes)}")
        elif wanted > here:
            said.append(f"it waits for {wanted} nodes, and {here} of {state.name} are here now")
        if lack := liars_warning(configuration, len(state.nodes)):
            said.append(lack)
        if any(known.name == configuration.name for known in node.runs.known.values()):
            said.append(f"a run called {configuration.name!r} is there already; its name will mean the newer one")
        return said


def _how(configuration: Configuration, place: GroupPlace | None) -> str:
    """How the run would combine, and how many liars it would bear, in a line."""
    nodes = 0 if place is None else len(place.state().nodes)
    borne = liars_words(configuration, nodes)
    return " · ".join(filter(None, (how_words(dotted(configuration.model_dump())), borne)))


def node_named(place: GroupPlace, name: str) -> str:
    """The id of a node of the group by its id, its name or the beginning of its id. Raises NotFound."""
    found = id_named(name, {node: entry.name for node, entry in place.state().nodes.items()})
    if found is None:
        raise NotFound("no-such-node", f"No node of the group is called {name!r}", remedy="see fednode peers")
    return found


def _key_in(problem: str) -> str:
    """The key that a sentence of protocol.manifest.read begins with, ours where it was written by another name."""
    place = problem.split(" ", 1)[0]
    key = place if place in KEYS else ALIASES.get(place.rpartition(".")[2], "")
    return key or next((known for known in KEYS if place.startswith(f"{known}.")), "")


def templates() -> Json:
    """For every task that comes with fednode a configuration to start from, and all keys, in docs/api.md's shape."""
    keys = [
        {
            "key": key.name,
            "type": key.type,
            "default": key.default,
            "required": key.required,
            "allowed": key.allowed,
            "meaning": key.meaning,
            "choices": list(key.choices),
        }
        for key in KEYS.values()
    ]
    return {
        "templates": [{"task": task, "config": _template(task)} for task in KEYS["task.name"].choices],
        "keys": keys,
    }


def _template(task: str) -> str:
    """What most runs change, without the explanations, which the keys have."""
    values = {"task.name": task, "data.name": task}
    lines = [f"name = {toml_value(f'{task}-run')}"]
    for section in SECTIONS:
        keys = [key for key in KEYS.values() if key.name in WRITTEN_OUT and key.name.startswith(f"{section}.")]
        if keys:
            lines += ["", f"[{section}]"]
        for key in keys:
            value = values.get(key.name, EXAMPLES.get(key.name, key.default))
            lines.append(f"{key.name.rpartition('.')[2]} = {toml_value(value)}")
    return "\n".join(lines) + "\n"
