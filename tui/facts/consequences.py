"""What commands do that cannot be taken back, in a sentence each; which do no harm; which the dashboard leaves out.

Every command is in exactly one of these tables, and a test holds that: a new command asks for the decision.
"""

from typing import NamedTuple

from tui.facts.commands import Path
from tui.facts.forms import NO, Values


class Consequence(NamedTuple):
    """What will happen. Counts only when the parameter `only_with` is given, and when `not_with` is not."""

    what: str
    only_with: str = ""
    not_with: str = ""


DESTROYS: dict[Path, Consequence] = {
    ("stop",): Consequence("The node stops, and takes no part in anything until it is started again."),
    ("group", "remove"): Consequence(
        "The member's nodes are cut off at once; runs go on without them. It comes back only by a new invitation."
    ),
    ("group", "leave"): Consequence("All your nodes leave the group. You come back only by an invitation."),
    ("join",): Consequence(
        "If the token is a device token, this machine becomes a node of the one who made it.", only_with="yes"
    ),
    ("nodes", "revoke"): Consequence(
        "The node is out of all groups and away from your other nodes, for good. Its machine comes back only with a "
        "new home and a new device token."
    ),
    ("nodes", "revoke-link"): Consequence("No machine becomes a node of yours by this device token any more."),
    ("group", "revoke-invitation"): Consequence("Nobody enters by this invitation any more."),
    ("data", "remove"): Consequence("The node forgets the data set. The data itself stays where it is."),
    ("run", "decline"): Consequence("This node will then take no part in the run."),
    ("run", "stop"): Consequence("The run ends for all of its nodes at its newest checkpoint. It can be resumed."),
    ("model", "remove"): Consequence(
        "The name goes, with all its versions and aliases, and their numbers are not given again. Its models are then "
        "kept no longer than other checkpoints."
    ),
    ("model", "untag"): Consequence("The alias stands for nothing any more. The version that it stood for stays."),
    ("blobs", "gc"): Consequence("Blobs that nothing needs any more are removed for good.", not_with="dry_run"),
    ("store", "prune"): Consequence("What no rule of retention keeps is removed for good.", not_with="dry_run"),
    ("store", "retention"): Consequence(
        "What the new rules do not keep is removed for good, within a day.", only_with="rules"
    ),
}
REPLACES = "A file of that name is replaced."  # of any command with --force

HARMLESS: frozenset[Path] = frozenset(
    {
        ("demo",),
        ("start",),
        ("status",),
        ("group", "create"),
        ("group", "invitations"),
        ("group", "list"),
        ("group", "log"),
        ("group", "role"),
        ("group", "show"),
        ("invite",),
        ("token", "show"),
        ("link",),
        ("nodes", "list"),
        ("doctor",),
        ("key", "show"),
        ("peers",),
        ("profile",),
        ("data", "add"),
        ("data", "list"),
        ("data", "show"),
        ("run", "accept"),
        ("run", "audit"),
        ("run", "check"),
        ("run", "compare"),
        ("run", "extend"),
        ("run", "keys"),
        ("run", "list"),
        ("run", "logs"),
        ("run", "metrics"),
        ("run", "plot"),
        ("run", "resume"),
        ("run", "show"),
        ("run", "spans"),
        ("run", "start"),
        ("run", "system"),
        ("run", "template"),
        ("inbox", "list"),
        ("inbox", "seen"),
        ("policy", "add"),
        ("policy", "list"),
        ("policy", "logs"),
        ("policy", "remove"),
        ("model", "compare"),
        ("model", "get"),
        ("model", "list"),
        ("model", "show"),
        ("model", "tag"),
        ("predict",),
        ("artifacts", "get"),
        ("artifacts", "list"),
        ("report",),
        ("metrics",),
        ("sql",),
        ("blobs", "usage"),
        ("blobs", "verify"),
        ("limits",),
        ("store", "backup"),
        ("store", "check"),
        ("store", "compact"),
        ("transfers",),
        ("import",),
        ("export", "mlflow"),
        ("export", "parquet"),
        ("export", "tensorboard"),
        ("simulate",),
    }
)

LEFT_OUT: dict[Path, str] = {
    ("tui",): "it is what one is looking at, and needs the terminal for itself",
    **dict.fromkeys(
        (("key", "protect"), ("key", "unprotect"), ("key", "export"), ("key", "import")),
        "it asks for a passphrase at a terminal, and works while the node is stopped",
    ),
    ("web",): "it serves the dashboard to browsers for as long as it runs, which one wants to outlive this one",
}


def consequence(path: Path, values: Values) -> str:
    """What will happen that cannot be taken back, in sentences; nothing for what does no harm."""
    known = DESTROYS.get(path)
    said = []
    if known and not (_given(values, known.not_with) or (known.only_with and not _given(values, known.only_with))):
        said.append(known.what)
    if _given(values, "force"):
        said.append(REPLACES)
    return " ".join(said)


def _given(values: Values, name: str) -> bool:
    return bool(name) and values.get(name, "") not in ("", NO)
