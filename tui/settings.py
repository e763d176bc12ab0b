"""What the dashboard remembers from one time to the next: the theme, in a small file of the user's own.

A file that is damaged, or cannot be read or written, costs the memory and nothing else: the dashboard says so and goes
on with what it would do without one.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES_MAX = 64 * 1024  # it holds a few words
NAME_CHARACTERS_MAX = 100


@dataclass(slots=True)
class Settings:
    """`trouble`: why the file was not read, for people; empty where nothing is wrong."""

    path: Path
    theme: str = ""
    trouble: str = ""

    @classmethod
    def read(cls, path: Path | None = None) -> "Settings":
        """What the file at `path` says, by default where this system keeps a user's settings. Never raises."""
        path = path or default_path()
        try:
            with path.open("rb") as file:
                text = file.read(FILE_BYTES_MAX + 1)
            told = json.loads(text) if len(text) <= FILE_BYTES_MAX else None
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            return cls(path, trouble=f"the settings in {path} cannot be read: {error.strerror}")
        except (ValueError, RecursionError):
            told = None
        theme = told.get("theme", "") if isinstance(told, dict) else None
        if not isinstance(theme, str) or len(theme) > NAME_CHARACTERS_MAX:
            return cls(path, trouble=f"the settings in {path} are damaged and count for nothing")
        return cls(path, theme)

    def write(self) -> None:
        """Put the file in the place of the one before, whole or not at all; `trouble` says why it was not."""
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"theme": self.theme}) + "\n")
            temporary.replace(self.path)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"the theme is not remembered, for {self.path} cannot be written: {error.strerror}"
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def default_path() -> Path:
    """Where this system keeps a user's settings."""
    from platformdirs import user_config_path

    return user_config_path("fednode") / "dashboard.json"
