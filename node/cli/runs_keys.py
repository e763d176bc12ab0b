"""fednode run template, fednode run keys: what a run's configuration can say."""

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import Answer, common_options


@click.command()
@common_options
@click.pass_obj
def template(answer: Answer) -> None:
    """Print a configuration to start from: valid as it is, with every key explained."""
    from protocol.manifest.keys import template as text

    answer.give({"template": text()}, lambda: text().rstrip())


@click.command()
@click.argument("search", required=False)
@common_options
@click.pass_obj
def keys(answer: Answer, search: str | None) -> None:
    """List every key of a configuration; with SEARCH, those whose name, meaning or alias has that in it."""
    from protocol.manifest.aliases import ALIASES
    from protocol.manifest.keys import KEYS, toml_value

    wanted = (search or "").lower()
    by_alias = {target for alias, target in ALIASES.items() if wanted in alias}
    chosen = [
        key for key in KEYS.values() if wanted in key.name or wanted in key.meaning.lower() or key.name in by_alias
    ]
    if not chosen:
        raise ClientError(f"No key has {search!r} in it", remedy="fednode run keys lists all of them")
    if answer.json:
        fields = ("name", "type", "default", "required", "allowed", "meaning")
        answer.give([{field: getattr(key, field) for field in fields} for key in chosen], "")
        return
    rows = []
    for key in chosen:
        default = "required" if key.required else "" if key.default is None else toml_value(key.default)
        rows.append((key.name, key.type, default, key.allowed, key.meaning))
    show.table(["KEY", "TYPE", "DEFAULT", "ALLOWED", "MEANING"], rows)
    answer.hint(f"Taken as ours too, and reported: {', '.join(sorted(ALIASES))}")
