"""fednode model: trained models as files."""

import contextlib
from pathlib import Path

import click

from fednode_client import ClientError
from node.cli import show
from node.cli.common import Answer, common_options


@click.group()
def model() -> None:
    """Get trained models."""


@model.command("get")
@click.argument("run_name", metavar="RUN")
@click.option("--round", "round_number", type=click.IntRange(0), help="Which round's. [default: the newest committed]")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="[default: RUN.safetensors]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@common_options
@click.pass_obj
def get(answer: Answer, run_name: str, round_number: int | None, output: str | None, force: bool) -> None:
    """Write a checkpoint of RUN to a safetensors file."""
    target = Path(output) if output else Path(f"{_file_name(run_name)}.safetensors")
    if target.exists() and not force:
        raise ClientError(f"{target} is there already", remedy="name another file with -o, or replace it with --force")
    partial = target.with_name(f".{target.name}.part")  # the file comes into being whole or not at all
    size = 0
    pieces = answer.client().model(run_name, round_number)
    try:
        with partial.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
        partial.replace(target)
    except OSError as error:
        raise ClientError(
            f"{target} cannot be written ({error.strerror})", remedy="name another file with -o"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    answer.give({"path": str(target.absolute()), "bytes": size}, f"{target}, {show.size(size)}")
    answer.hint(f"Load it: safetensors.torch.load_file({str(target)!r})")


def _file_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in name).lstrip(".")
