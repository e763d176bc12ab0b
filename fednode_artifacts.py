"""Artifacts that a task logs: files, texts, figures. Import the names from `fednode`.

Outside a run nothing happens, as with all logging; what cannot be kept is left out with a warning.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from fednode_logging import LoggedArtifact, TaskError, is_heard, json_text, leave_out, tell, text_of

ARTIFACT_NAME_CHARACTERS_MAX = 200  # of a whole relative path; file systems take 255 bytes a segment
ARTIFACT_NAME_SEGMENTS_MAX = 8
ARTIFACT_FILES_MAX = 1000  # of one folder: more is a data set
KIND_CHARACTERS_MAX = 40
DETAILS_CHARACTERS_MAX = 4000  # in JSON: a note, not a second artifact


class Artifact:
    """Several files under one name, as in FedML: add them, then give it to `log_artifact`."""

    def __init__(self, name: str, type: str = "file", details: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.type = type
        self.details = details
        self.files: list[tuple[str, Path]] = []  # each with its name below the artifact's

    def add_file(self, path: str | Path, name: str | None = None) -> None:
        self.files.append((name or Path(path).name, Path(path)))

    def add_dir(self, path: str | Path) -> None:
        """Add the files of a folder and of those in it, with their paths below it."""
        self.files += _files_in(Path(path))


def log_artifact(
    source: str | Path | bytes | Artifact,
    name: str | None = None,
    kind: str = "file",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Keep a file, or bytes, with the run. It stays on this node: see `fednode artifacts`. The content is copied now.

    Args:
        name: a relative path such as "plots/confusion.png"; a file's own name if left out. The same name again takes
            the earlier one's place, so put the round into it to keep all.
        kind: a word for people to sort by, such as "model".
        details: what else is to be known of it, as JSON.

    Raises:
        TaskError: the name will not do, or `source` is nothing that can be kept.
    """
    if not is_heard():
        return
    if isinstance(source, Artifact):
        for below, path in source.files:
            _keep(path, f"{name or source.name}/{below}", source.type, details or source.details)
    elif isinstance(source, bytes | bytearray | memoryview):
        if name is None:
            raise TaskError("log_artifact was given bytes without a name", remedy="name them: name='notes.txt'")
        _keep(bytes(source), name, kind, details)
    elif isinstance(source, str | Path):
        _keep(Path(source), name or Path(source).name, kind, details)
    else:
        raise TaskError(
            f"log_artifact was given a {type(source).__name__}",
            remedy="give it a path or bytes; log_figure, log_dict and log_text take other things",
        )


def log_artifacts(folder: str | Path, name: str | None = None) -> None:
    """Keep every file of a folder, each with its path below it (below `name`, if given), as in MLflow."""
    if not is_heard():
        return
    for below, path in _files_in(Path(folder)):
        _keep(path, f"{name}/{below}" if name else below, "file", None)


def log_text(text: str, name: str) -> None:
    """Keep a text."""
    if is_heard():
        _keep(text_of(text).encode(), name, "text", None)


def log_dict(value: Any, name: str) -> None:
    """Keep a dictionary or list, as JSON."""
    if is_heard():
        _keep(json_text(value, indent=2).encode(errors="replace"), name, "json", None)


def log_figure(figure: Any, name: str) -> None:
    """Keep a picture: a matplotlib figure or a PIL image as PNG (or what the name ends in), a plotly figure as HTML.

    Raises TaskError for other things."""
    if not is_heard():
        return
    ending = Path(name).suffix.lstrip(".").lower()
    try:
        if hasattr(figure, "savefig") or hasattr(figure, "save"):
            ending, buffer = ending or "png", io.BytesIO()
            save = figure.savefig if hasattr(figure, "savefig") else figure.save
            save(buffer, format={"jpg": "jpeg"}.get(ending, ending))
            content = buffer.getvalue()
        elif hasattr(figure, "to_html"):
            ending, content = ending or "html", figure.to_html().encode(errors="replace")
        else:
            raise TaskError(
                f"log_figure was given a {type(figure).__name__}",
                remedy="give it a figure of matplotlib or plotly or a PIL image; log_artifact takes files and bytes",
            )
    except TaskError:
        raise
    except Exception as error:  # noqa: BLE001 - a picture that somebody's library cannot draw must not cost a round
        leave_out(f"The figure {name}", f"it could not be drawn ({type(error).__name__}: {error})")
        return
    _keep(content, name if Path(name).suffix else f"{name}.{ending}", "figure", None)


def artifact_name(name: str) -> str:
    """`name`, if an artifact may be called so. Raises ValueError, with the rule that it breaks."""
    segments = name.split("/")
    if not 0 < len(name) <= ARTIFACT_NAME_CHARACTERS_MAX or len(segments) > ARTIFACT_NAME_SEGMENTS_MAX:
        raise ValueError(f"it must have 1 to {ARTIFACT_NAME_CHARACTERS_MAX} characters and few folders")
    if not name.isprintable() or "\\" in name:
        raise ValueError("it has a character that is invisible, or a backslash")
    if any(not part or part.startswith(".") or part != part.strip() for part in segments):
        raise ValueError("it must be a relative path whose parts neither are empty nor begin with a dot or a space")
    return name


def _keep(content: bytes | Path, name: str, kind: str, details: Mapping[str, Any] | None) -> None:
    try:
        artifact_name(str(name))
        told = json_text(dict(details or {}))
    except (TypeError, ValueError) as error:
        raise TaskError(f"{str(name)[:80]!r} cannot be kept as an artifact: {error}", remedy="change that") from None
    if len(told) > DETAILS_CHARACTERS_MAX:
        leave_out(f"The details of the artifact {name}", f"they have more than {DETAILS_CHARACTERS_MAX} characters")
        told = "{}"
    tell(LoggedArtifact(str(name), text_of(kind)[:KIND_CHARACTERS_MAX], content, text_of(told)))


def _files_in(folder: Path) -> list[tuple[str, Path]]:
    """The plain files below a folder, hidden ones left out, each with its path below it."""
    found = list(islice(_walk(folder), ARTIFACT_FILES_MAX + 1))
    if not found:
        leave_out(f"The folder {folder}", "there are no files in it")
    elif len(found) > ARTIFACT_FILES_MAX:
        leave_out(f"Files of the folder {folder}", f"it has more than {ARTIFACT_FILES_MAX}; pack them into one")
    return found[:ARTIFACT_FILES_MAX]


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix(), path
