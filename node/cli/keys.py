"""fednode key: which keys there are, the passphrase that they lie under, and backups of them."""

from pathlib import Path
from typing import Any

import click

from fednode_endpoints import home_path
from node.cli import show
from node.cli.common import Answer, common_options
from node.cli.passphrases import (
    BACKUP,
    NEW,
    asked,
    can_ask,
    given,
    home_passphrase,
    new_passphrase,
    passphrase_option,
)
from protocol.errors import Refused

_WHAT = {
    "node.key": "this node",
    "member.key": "you, on all of your nodes",
    "seal.key": "what is sealed to this node",
}
_IN_CLEAR = (
    "They lie there in clear: whoever has these files is you. Put them under a passphrase before the node starts: "
    "fednode key protect"
)
_AFTER_IMPORT = (
    "Next: fednode start. A backup holds no groups: ask somebody who is in them for an invitation and fednode join it. "
    "What this node voted in runs that still go on is forgotten; have them stopped before it takes part in them again. "
    "Never run it beside the node that the backup is of: two of one key cut each other off, and can vote twice."
)
_backup_passphrase_option = click.option(
    "--backup-passphrase-file",
    metavar="FILE",
    help=f"Where the backup's own passphrase stands; - is standard input. [default: {BACKUP}, else it is asked for]",
)


@click.group()
@common_options
def key() -> None:
    """Look after the keys that are this node's, and your, identity.

    The node must be stopped for all but show.
    """


@key.command("show")
@common_options
@click.pass_obj
def show_keys(answer: Answer) -> None:
    """Show which keys are here, whose they are, and whether they are under a passphrase.

    \b
    Example:
      fednode key show
    """
    from node.home.key_backup import ids_in
    from node.home.key_files import KEY_FILES, check_is_ours, is_protected, secret_files
    from node.home.sealing import Vault, is_sealed
    from tracker.durable import disk_errors

    home = home_path(answer.home)
    with disk_errors(f"look at the home {home}"):
        if not home.is_dir():
            raise Refused("no-home", f"There is no home at {home}", remedy="name another --home, or start a node there")
        check_is_ours(home)
    protected = is_protected(home)
    certified, found = ids_in(home, None), None if protected else ids_in(home, Vault())
    ids = dict(zip(KEY_FILES, found or certified, strict=True))
    known = dict(zip(KEY_FILES, certified, strict=True))
    keys = [
        {
            "file": name,
            "id": ids[name] or known[name],
            "here": (home / name).exists(),
            "sealed": (home / name).exists() and is_sealed((home / name).read_bytes()),
        }
        for name in KEY_FILES
    ]
    groups = [path for path in secret_files(home) if path.name.startswith("group-")]
    told = {"home": str(home), "protected": protected, "keys": keys, "group_keys": len(groups)}
    answer.give(told, lambda: _shown(told))


def _shown(told: dict[str, Any]) -> str:
    rows = [
        [entry["file"], _WHAT[entry["file"]], _lies(entry), entry["id"] or "not known yet"] for entry in told["keys"]
    ]
    lock = (
        "They, and the keys of groups, are under a passphrase."
        if told["protected"]
        else "They lie in clear: whoever has these files is you. A passphrase: fednode key protect"
    )
    return "\n".join([f"Keys in {told['home']}", show.plain_table(["FILE", "WHO", "ON THE DISK", "ID"], rows), lock])


def _lies(entry: dict[str, Any]) -> str:
    if not entry["here"]:
        return "not here"
    return "under the passphrase" if entry["sealed"] else "in clear"


@key.command()
@passphrase_option
@click.option(
    "--new-passphrase-file",
    metavar="FILE",
    help=f"Where the new passphrase stands; - is standard input. [default: {NEW}, else it is asked for]",
)
@common_options
@click.pass_obj
def protect(answer: Answer, passphrase_file: str | None, new_passphrase_file: str | None) -> None:
    """Put the keys under a passphrase, or under another one than before.

    From then on every start needs it: at a terminal it is asked for, else fednode start takes --passphrase-file. Nobody
    can open the keys without it, fednode neither: keep it, or a backup of the keys, in a safe place.

    \b
    Examples:
      fednode key protect
      fednode key protect --new-passphrase-file ~/fednode.passphrase
    """
    from node.home.home import stopped_home
    from node.home.key_files import is_protected
    from node.home.key_files import protect as put_under

    home = home_path(answer.home)
    _one_input(passphrase_file, new_passphrase_file)
    with stopped_home(home):
        was_protected = is_protected(home)
        present = home_passphrase(home, passphrase_file) if was_protected else None
        chosen = new_passphrase(new_passphrase_file, NEW, "New passphrase of the keys")
        if chosen is None:
            raise _nobody_to_ask("--new-passphrase-file", NEW)
        put_under(home, present, chosen)
    answer.give(
        {"protected": True, "changed": was_protected},
        "The passphrase is changed." if was_protected else "The keys are under the passphrase now.",
    )
    answer.hint("Copies of the files that were made before, backups of the disk among them, are as they were.")


@key.command()
@passphrase_option
@common_options
@click.pass_obj
def unprotect(answer: Answer, passphrase_file: str | None) -> None:
    """Leave the keys in clear again, so that starts need no passphrase.

    \b
    Example:
      fednode key unprotect
    """
    from node.home.home import stopped_home
    from node.home.key_files import passphrase_needed, unprotect

    home = home_path(answer.home)
    with stopped_home(home):
        present = home_passphrase(home, passphrase_file)
        if present is None:
            raise passphrase_needed(home)
        unprotect(home, present)
    answer.give({"protected": False}, "The keys lie in clear now: whoever has these files is you.")


@key.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--member", is_flag=True, help="Only the member's key, for another node of yours to hold.")
@click.option("--unprotected", is_flag=True, help="Under no passphrase: whoever has the file is you.")
@passphrase_option
@_backup_passphrase_option
@common_options
@click.pass_obj
def export(
    answer: Answer,
    file: Path,
    member: bool,
    unprotected: bool,
    passphrase_file: str | None,
    backup_passphrase_file: str | None,
) -> None:
    """Write a backup of this node's identity to FILE, which must not be there yet, under a passphrase of its own.

    It holds the keys of the node and the member. It does not hold groups, runs, models, or what the node voted.

    \b
    Examples:
      fednode key export /mnt/safe/fednode-keys
      fednode key export me --member
    """
    from node.home.home import stopped_home
    from node.home.key_backup import backup_of, no_key, write_backup
    from node.home.key_files import has_keys, unlock

    home = home_path(answer.home)
    _one_input(passphrase_file, backup_passphrase_file)
    if unprotected and backup_passphrase_file:
        raise Refused("bad-options", "The backup is to be under a passphrase, and under none", remedy="say which")
    with stopped_home(home):
        if not has_keys(home):
            raise no_key(home, "keys")
        vault = unlock(home, home_passphrase(home, passphrase_file))
        backup = backup_of(home, vault, member_only=member)
        chosen = None
        if not unprotected:
            chosen = new_passphrase(backup_passphrase_file, BACKUP, "Passphrase of the backup")
            if chosen is None:
                raise _nobody_to_ask("--backup-passphrase-file", BACKUP, "; --unprotected writes it in clear")
        write_backup(file, backup, chosen)
    told: dict[str, Any] = {"file": str(file.absolute()), "keys": sorted(backup.keys), "protected": chosen is not None}
    lies = "under its passphrase" if chosen is not None else "in clear: whoever has it is you"
    answer.give(told, f"{', '.join(told['keys'])}: in {file}, {lies}.")


@key.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@passphrase_option
@_backup_passphrase_option
@click.option("--same-passphrase", is_flag=True, help="Put the keys under the backup's own passphrase here, too.")
@common_options
@click.pass_obj
def import_keys(
    answer: Answer, file: Path, passphrase_file: str | None, backup_passphrase_file: str | None, same_passphrase: bool
) -> None:
    """Take the keys of a backup into a home that does not have them: an empty one, or one of the same identity.

    No key is ever replaced by another. A passphrase for the keys in the new home is set with --passphrase-file or
    --same-passphrase, or later with fednode key protect; without one they lie there in clear.

    \b
    Example:
      fednode key import /mnt/safe/fednode-keys
    """
    from node.home.home import stopped_home
    from node.home.key_backup import is_under_passphrase, open_backup, read_raw, restore
    from node.home.key_files import is_protected, unlock
    from tracker.durable import disk_errors

    home = home_path(answer.home)
    _one_input(passphrase_file, backup_passphrase_file)
    raw = read_raw(file)
    if same_passphrase and (passphrase_file is not None or not is_under_passphrase(raw)):
        what = (
            "The backup is under no passphrase" if passphrase_file is None else "Two passphrases are named for the keys"
        )
        raise Refused("bad-options", what, remedy="give --passphrase-file or --same-passphrase, as it fits")
    passphrase = None
    if is_under_passphrase(raw):
        passphrase = given(backup_passphrase_file, BACKUP)
        if passphrase is None and can_ask():
            passphrase = asked("Passphrase of the backup")
        if passphrase is None:
            raise _nobody_to_ask("--backup-passphrase-file", BACKUP)
    backup = open_backup(raw, passphrase, str(file))
    with disk_errors(f"make the home {home}"):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with stopped_home(home):
        chosen = passphrase if same_passphrase else home_passphrase(home, passphrase_file)
        restored, protected = restore(home, unlock(home, chosen), backup), is_protected(home)
    text = f"{', '.join(restored)}: in {home} now." if restored else f"{home} has these keys already."
    lies = "They are under a passphrase." if protected else _IN_CLEAR
    answer.give({"home": str(home), "restored": restored, "protected": protected}, f"{text} {lies}")
    if "node.key" in restored:
        answer.hint(_AFTER_IMPORT)


def _one_input(*files: str | None) -> None:
    if files.count("-") > 1:
        raise Refused("bad-options", "Two passphrases cannot both come from standard input", remedy="name a file")


def _nobody_to_ask(option: str, variable: str, more: str = "") -> Refused:
    return Refused(
        "passphrase-needed",
        "A passphrase is needed, and nobody is at a terminal to be asked",
        remedy=f"give it with {option} FILE (- reads it from standard input) or {variable}{more}",
    )
