"""fednode policy: which runs the node accepts without asking."""

import click

from node.cli.common import Answer, common_options


@click.group()
def policy() -> None:
    """Say which runs this node accepts by itself; all others wait for fednode run accept.

    \b
    A rule is one of
      mine           proposals of your own nodes
      task:NAME      a built-in task, whoever of the group proposes it
      proposer:ID    whatever this member or node proposes
      all            everything
    """


@policy.command("list")
@common_options
@click.pass_obj
def list_rules(answer: Answer) -> None:
    """List the rules."""
    _show(answer, answer.client().policy()["rules"])


@policy.command("add")
@click.argument("rule")
@common_options
@click.pass_obj
def add(answer: Answer, rule: str) -> None:
    """Accept from now on what RULE covers."""
    client = answer.client()
    rules = client.policy()["rules"]
    _show(answer, client.set_policy([*rules, *([] if rule in rules else [rule])])["rules"])


@policy.command("remove")
@click.argument("rule")
@common_options
@click.pass_obj
def remove(answer: Answer, rule: str) -> None:
    """Ask again from now on."""
    client = answer.client()
    rules = client.policy()["rules"]
    if rule not in rules:
        raise click.UsageError(f"{rule!r} is no rule here; there are: {', '.join(rules) or 'none'}")
    _show(answer, client.set_policy([known for known in rules if known != rule])["rules"])


def _show(answer: Answer, rules: list[str]) -> None:
    answer.give(rules, "\n".join(rules) or "none: every run waits for you")
