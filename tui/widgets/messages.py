"""Every message that goes between the dashboard's parts."""

from dataclasses import dataclass

from textual.message import Message


class StateMoved(Message):
    """The state has news. Says nothing about which, so of many in a row one is enough."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StateMoved)


@dataclass
class RowMoved(Message):
    """The cursor of a table stands on another row."""

    table: str
    key: str

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, RowMoved) and message.table == self.table


@dataclass
class RowEntered(Message):
    """A row was chosen with Enter or a second click."""

    table: str
    key: str
