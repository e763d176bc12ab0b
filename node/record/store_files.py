"""Looking at what a record refers to on the disk: journals, and the blobs of models and artifacts. It blocks.

Files are only read: a torn record at a journal's end, or a blob that is being written, is nobody's fault.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from protocol.errors import FednodeError
from tracker.blobs.chunks import blob_id_of_data
from tracker.durable import disk_errors
from tracker.journal import check_inside, scan_records
from tracker.tables.check import EXAMPLES_MAX, Checked, Finding

Json = dict[str, Any]

_LOST_REMEDY = "put back a copy of its blob (fednode import of a backup with models), or take the name away"
_DAMAGED_REMEDY = (
    "check this machine's disk; what a run needs is fetched again from its other nodes by itself, and any node that has"
    " the model can give it: fednode model get there"
)


def check_files(home: Path, named: Iterable[Mapping[str, Any]], *, deep: bool) -> list[Finding]:
    """What is wrong with the journals below `home`, and with the blobs that the record names; `deep` reads all of
    these through. Raises FednodeError when the disk says no."""
    return [*_check_journals(home / "journals"), *_check_blobs(home / "blobs" / "whole", named, deep)]


def told(checked: Checked, more: Iterable[Finding], place: str) -> Json:
    """The answer to people and programs."""
    findings = [*checked.findings, *more]
    return {
        "store": place,
        "version": checked.version,
        "rows": checked.rows,
        "ok": not any(finding.is_error for finding in findings),
        "findings": [
            {"what": finding.what, "remedy": finding.remedy, "error": finding.is_error} for finding in findings
        ],
    }


def _check_journals(folder: Path) -> list[Finding]:
    findings = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if not path.is_file():
            continue
        with disk_errors(f"read the journal {path}"):
            raw = path.read_bytes()
        try:
            check_inside(raw, scan_records(raw)[1], path.name)
        except FednodeError as error:
            findings.append(Finding(error.what, error.remedy))
    return findings


def _check_blobs(folder: Path, named: Iterable[Mapping[str, Any]], deep: bool) -> list[Finding]:
    findings: list[Finding] = []
    gone: dict[str, int] = {}
    sound: set[str] = set()
    for entry in named:
        path = folder / entry["blob"]
        what = f"the {entry['kind']} of round {entry['round']} of the run {entry['run_id'][:12]}"
        if not path.is_file():
            gone[entry["kind"]] = gone.get(entry["kind"], 0) + 1
            if entry["needed"]:
                findings.append(Finding(f"A registered model is not here: {what}", _LOST_REMEDY))
        elif deep and entry["blob"] not in sound:
            with disk_errors(f"read {path}"):
                is_sound = blob_id_of_data(path) == entry["blob"]
            if is_sound:
                sound.add(entry["blob"])
            elif len(findings) < EXAMPLES_MAX * EXAMPLES_MAX:
                findings.append(Finding(f"The bytes are damaged of {what}", _DAMAGED_REMEDY))
    for kind, count in gone.items():
        what = f"{count} {kind}s that the record names are not on this disk"
        findings.append(Finding(what, "nothing, where retention removed them: fednode store retention", False))
    return findings
