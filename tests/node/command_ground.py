"""fednode's commands, run within the test, and what came of them."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from node.cli import cli


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), input=stdin, prog_name="fednode")


def done(*arguments: str | Path, stdin: str | None = None) -> Result:
    """Of a command that must succeed."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def as_json(*arguments: str | Path, exit_code: int = 0) -> Any:
    """What a command says with --json."""
    result = run(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)
