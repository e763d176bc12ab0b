"""A run's configuration while it is written: the fields of its form out of the node's keys, and what the node says to
it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from tui.facts.fields import Json, items, lines_of, text, texts
from tui.facts.forms import Field
from tui.facts.toml_text import literal, read, with_key

OWN_FILE = "own file"  # in the place of a task that comes along
# In the order in which one thinks of them. Everything else is a matter for the text.
ASKED = (
    *("task.name", "task.path", "data.name", "name", "project", "training.rounds", "roster.nodes_min"),
    *("training.epochs", "training.batch_size", "training.learning_rate", "training.optimizer", "aggregation.rule"),
)
LABELS = {
    "task.name": "template",
    "task.path": "task's file",
    "data.name": "data set",
    "roster.nodes_min": "nodes at least",
    "aggregation.rule": "rule",
}


@dataclass(frozen=True)
class Templates:
    """What GET /v1/templates says: texts to start from by task, and the fields of the form."""

    texts: Mapping[str, str]
    fields: tuple[Field, ...]
    kinds: Mapping[str, str]  # of the keys, such as "whole number"

    @classmethod
    def of(cls, answer: Json, data_sets: tuple[str, ...]) -> "Templates":
        keys = {text(each, "key"): each for each in items(answer, "keys")}
        templates = items(answer, "templates")
        configs = {text(each, "task"): _config(each) for each in templates}
        fields = tuple(_field(key, keys[key], data_sets) for key in ASKED if key in keys)
        return cls(configs, fields, {key: text(each, "type") for key, each in keys.items()})

    def changed(self, config: str, key: str, value: str) -> str:
        """`config` after somebody typed `value` for `key`. Another template comes with its data set's name."""
        if key != "task.name":
            return with_key(config, key, literal(value, self.kinds.get(key, "")) if value else "")
        if value == OWN_FILE:
            return with_key(config, "task.name", "")
        if (read(config) or {}).get("data.name") in self.texts:
            config = with_key(config, "data.name", literal(value, "text"))
        return with_key(with_key(config, "task.path", ""), "task.name", literal(value, "text"))


def _config(template: Json) -> str:
    """A template's text with its line ends. An editor shows what is in it as it is, so nothing else that is no
    character may be."""
    lines = lines_of(template, "config")
    return f"{lines}\n" if lines else text(template, "config")


def _field(key: str, told: Json, data_sets: tuple[str, ...]) -> Field:
    choices = texts(told, "choices")
    if key == "task.name":
        choices = (*choices, OWN_FILE)
    default = text(told, "default")
    return Field(
        name=key,
        label=LABELS.get(key, key.rpartition(".")[2].replace("_", " ")),
        help=f"{key}: {text(told, 'meaning')} ({text(told, 'allowed')})",
        value=default.lower() if isinstance(told.get("default"), bool) else default,
        choices=choices,
        suggestions=data_sets if key == "data.name" else (),
    )


@dataclass(frozen=True)
class Verdict:
    """What POST /v1/runs/check says to a configuration."""

    troubles: tuple[tuple[str, str], ...]  # key, or "" where it is about no single one, and what is wrong
    notes: tuple[str, ...]  # what was taken in another sense than its letter, and what may go wrong

    @classmethod
    def of(cls, answer: Json) -> "Verdict":
        troubles = []
        for each in items(answer, "problems"):
            what, remedy = text(each, "what"), text(each, "remedy")
            troubles.append((text(each, "key"), f"{what} – {remedy}" if remedy else what))
        return cls(tuple(troubles), (*texts(answer, "taken_as"), *texts(answer, "warnings")))

    @property
    def is_good(self) -> bool:
        return not self.troubles
