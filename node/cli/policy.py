"""fednode policy: which runs the node accepts without asking, and which lines of its log others may read."""

import click

from node.cli.common import Answer, common_options


@click.group()
def policy() -> None:
    """Say which runs this node accepts by itself; all others wait for fednode run accept. And, with fednode policy
    logs, which of its lines about a run the others in it may read.

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
    known = answer.client().policy()
    _show(answer, known["rules"])
    answer.hint(f"Of its lines about a run this node shares: {known['logs']} (fednode policy logs)")


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


@policy.command("logs")
@click.argument("policy", type=click.Choice(["none", "errors", "all"]), required=False)
@common_options
@click.pass_obj
def logs(answer: Answer, policy: str | None) -> None:
    """Say which of this node's lines about a run the others in it may read, or show what it is.

    \b
      none    nothing; that is how a node begins
      errors  errors, with their tracebacks
      all     every line, also what the task prints

    Paths, addresses, secrets, literals and rows of data are taken out by rule; what no rule can know, such as a name in
    the middle of a sentence, stays. It counts at once, and for earlier lines too: whoever may read is given all that
    this node still has of the run. Whatever the policy, a run's proposer learns in one line when its task fails here:
    the exception's kind and place, not its message.
    """
    client = answer.client()
    known = client.policy() if policy is None else client.set_policy(logs=policy)
    answer.give(known["logs"], f"{known['logs']}: {_SHARED[known['logs']]}")


_SHARED = {
    "none": "nobody reads this node's log",
    "errors": "whoever takes part in a run may read this node's errors about it, earlier ones too, redacted",
    "all": "whoever takes part in a run may read this node's lines about it, earlier ones too, redacted",
}


def _show(answer: Answer, rules: list[str]) -> None:
    answer.give(rules, "\n".join(rules) or "none: every run waits for you")
