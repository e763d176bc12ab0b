"""A terminal in tmux for tests: what it shows, and keys typed into it, as a person sits before it."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nodes import wait_until
from real_node import ROOT

TMUX = shutil.which("tmux") or ""
CALL_DEADLINE_S = 10.0
SHOWN_WITHIN_S = 60.0  # of a busy machine


class Terminal:
    """Keys are those of `tmux send-keys`: Enter, Escape, C-p, or plain letters."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def tmux(self, *words: str, stdin: str | None = None) -> str:
        """Have tmux do something. Raises AssertionError with its words."""
        environment = {key: value for key, value in os.environ.items() if key != "TMUX"}
        done = subprocess.run(
            [TMUX, "-S", str(self._socket), "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            input=stdin,
            env=environment,
            timeout=CALL_DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def text(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "main")

    def shows(self, *words: str, within_s: float = SHOWN_WITHIN_S) -> str:
        """Wait until all the words are on the screen. Gives its text."""
        seen = ""

        def shown() -> bool:
            nonlocal seen
            seen = self.text
            return all(word in seen for word in words)

        try:
            wait_until(shown, f"{words} on the screen", within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}, but\n{seen}") from None
        return seen

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "main", *keys)

    def types(self, text: str) -> None:
        self.tmux("send-keys", "-t", "main", "-l", text)

    def pastes(self, text: str) -> None:
        """As a terminal hands on what was copied elsewhere."""
        self.tmux("load-buffer", "-", stdin=text)
        self.tmux("paste-buffer", "-p", "-t", "main")

    def resize(self, columns: int, lines: int) -> None:
        self.tmux("resize-window", "-t", "main", "-x", str(columns), "-y", str(lines))

    @property
    def is_over(self) -> bool:
        """The program in it has ended."""
        return self.tmux("list-panes", "-t", "main", "-F", "#{pane_dead}").strip() == "1"


@contextmanager
def terminal(folder: Path, command: Sequence[str], columns: int = 120, lines: int = 36) -> Iterator[Terminal]:
    """A terminal with `command` in it, in `folder`, and what is remembered of themes and the like there too."""
    opened = Terminal(folder / "tmux")
    words = [str(word) for word in command]
    opened.tmux(
        *("new-session", "-d", "-s", "main", "-x", str(columns), "-y", str(lines), "-c", str(folder)),
        *("-e", f"XDG_CONFIG_HOME={folder / 'config'}", "-e", f"PYTHONPATH={ROOT}", *words),
    )
    opened.tmux("set-option", "-g", "remain-on-exit", "on")
    try:
        yield opened
    finally:
        opened.tmux("kill-server")
