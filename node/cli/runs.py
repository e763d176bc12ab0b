"""fednode run: propose, list, show, decide, stop, resume, extend. What is measured and logged is in runs_watch."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from node.cli import show
from node.cli.audit import audit
from node.cli.common import EXIT_REFUSED, Answer, clean, common_options, one_line, store_option
from node.cli.compare import compare
from node.cli.data import settings_of
from node.cli.look import COLUMNS, Looker
from node.cli.members import group_option
from node.cli.plot import plot
from node.cli.runs_keys import keys, template
from node.cli.runs_system import spans, system
from node.cli.runs_watch import logs, metrics

ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})
REFUSED_ROUNDS_MAX = 1000  # the newest, in which refused updates are looked for
REFUSED_SHOWN_MAX = 20
_SHOW = "fednode run show"

configuration_file = click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
overriding = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Count instead of FILE's: training.rounds=20."
)


@click.group()
def run() -> None:
    """Start, follow, accept, stop and resume runs. RUN is a run's name, its id, or the beginning of its id."""


run.add_command(audit)
run.add_command(metrics)
run.add_command(logs)
run.add_command(plot)
run.add_command(compare)
run.add_command(spans)
run.add_command(system)
run.add_command(template)
run.add_command(keys)


@run.command("start")
@configuration_file
@group_option
@overriding
@common_options
@click.pass_obj
def start(answer: Answer, file: str, group: str | None, overrides: tuple[str, ...]) -> None:
    """Propose the run that FILE (TOML) describes to a group; - reads it from standard input.

    A task.path in it is looked for beside FILE. Begin one with: fednode run template > study.toml
    """
    text, source = _configuration(file)
    made = answer.client().start_run(text, source, group=group, overrides=settings_of(overrides))
    for note in made.get("taken_as", ()):
        answer.hint(f"Note: {note}")
    answer.give(made, lambda: f"Run {made['name']} ({show.short(made['run_id'])}) is proposed: {made['state']}.")
    name = repr(made["name"])
    answer.hint(f"Next: the others accept it (fednode run accept {name}); follow it with fednode run show {name}")


@run.command("check")
@configuration_file
@group_option
@overriding
@common_options
@click.pass_obj
def check(answer: Answer, file: str, group: str | None, overrides: tuple[str, ...]) -> int:
    """Say what proposing FILE would say, without proposing it; - reads it from standard input.

    It asks your node, which knows the group, the data sets and the task's file, so the node must be up (fednode up).
    """
    text, source = _configuration(file)
    told = answer.client().check_run(text, source, group=group, overrides=settings_of(overrides))
    how = [f"How: {told['how']}"] if told.get("how") else []
    for note in (*how, *(f"Note: {note}" for note in told["taken_as"]), *(f"But: {said}" for said in told["warnings"])):
        answer.hint(note)
    wrong = [
        _sentence(each["what"]) + (f" To fix: {each['remedy']}." if each["remedy"] else "") for each in told["problems"]
    ]
    file_words = "It" if source is None else file
    text = "\n  ".join([f"{file_words} cannot be proposed:", *wrong])
    answer.give(told, text if wrong else f"{file_words} can be proposed as it is.")
    return EXIT_REFUSED if wrong else 0


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!", ".")) else f"{text}."


def _configuration(file: str) -> tuple[str, Path | None]:
    if file == "-":
        return sys.stdin.read(), None
    try:
        return Path(file).read_text(encoding="utf-8"), Path(file)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        message = f"{file} cannot be read: {why}. To begin one: fednode run template > study.toml"
        raise click.UsageError(message) from None


@run.command("list")
@click.option("--where", metavar="EXPRESSION", help='Only these: "accuracy > 0.9 and params.learning_rate < 0.1".')
@click.option("--sort", metavar="NAME,…", help="By these; the largest first with a minus: -accuracy.")
@click.option("--project", help="Only this project's.")
@click.option("--tag", "tags", multiple=True, help="Only with this tag; may be given again.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=30, show_default=True)
@store_option
@common_options
@click.pass_obj
def list_runs(answer: Answer, /, limit: int, **wanted: Any) -> None:
    """List runs, the newest first.

    \b
    EXPRESSION  comparisons (= != < <= > >= in) with and, or, not and parentheses between
                a column (state, accuracy, round, created_at, tags, …; --json shows all of them),
                params.KEY, from the configuration (params.learning_rate), or
                metrics.KEY, the newest mean over the nodes;
                and a number, a 'text', true, false or null (has none)
    """
    found, names = Looker(answer.record()).chosen(limit=limit, **wanted)
    if answer.json:
        answer.give([run | ({"values": values} if names else {}) for run, values in found], "")
        return
    more = [name for name in names if name not in COLUMNS]
    columns = ["NAME", "RUN", "STATE", "ROUND", "ACCURACY", "LOSS", "BY", "CREATED", "YOU", *more]
    show.table(columns, [[*_row(run), *(_value(values[name]) for name in more)] for run, values in found])
    for entry, _ in found:
        if entry["decision"] == "undecided" and entry["state"] not in ENDED:
            name = entry["name"]
            answer.hint(f"{name} waits for you: fednode run accept {name!r}, or fednode run decline {name!r}")
    if not found and any(wanted.values()):
        answer.hint("No run fits that.")
    elif not found:
        answer.hint("None yet. Begin one: fednode run template > study.toml, then fednode run start study.toml")


def _value(value: Any) -> object:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return show.figure(value) if isinstance(value, float) else value


def _row(entry: dict[str, Any]) -> list[object]:
    return [
        entry["name"],
        show.short(entry["run_id"]),
        entry["state"],
        f"{entry['round']}/{entry['rounds']}",
        show.figure(entry["accuracy"]),
        show.figure(entry["loss"]),
        entry["proposer_name"] or show.node(entry["proposer"]),
        show.moment(entry["created_at"]),
        entry["decision"],
    ]


@run.command("show")
@click.argument("run_name", metavar="RUN")
@store_option
@common_options
@click.pass_obj
def show_run(answer: Answer, run_name: str) -> None:
    """Show where RUN is, who takes part, and what is the matter."""
    record = answer.record()
    entry = record.run(run_name)
    refused = record.updates(entry["run_id"], outcome="refused", limit=REFUSED_ROUNDS_MAX)["updates"]
    if answer.json:
        answer.give(entry | {"updates_refused": refused}, "")
        return
    lack = _liars_lack(entry, record.updates(entry["run_id"], limit=1)["updates"])
    click.echo(clean(_described(entry, lack)))
    if entry["participants"]:
        click.echo()
        columns = ["NODE", "ID", "STATE", "ROUND", "SAMPLES", "VOTES", "WHY"]
        show.table(columns, [_participant(participant) for participant in entry["participants"]])
    aside = [update for update in refused if _is_aside(update)]
    refused = [update for update in refused if not _is_aside(update)]
    if aside:
        click.echo(f"\n{clean(_set_aside(entry, aside))}")
    if refused:
        click.echo("\nUpdates that were refused:")
        newest = refused[:REFUSED_SHOWN_MAX]
        show.table(["ROUND", "UPDATE OF", "ID", "WHY"], [_refusal(update) for update in newest])
        if len(refused) > len(newest):
            answer.hint(f"{len(refused) - len(newest)} more, of earlier rounds: fednode run show --json {run_name!r}")
    answer.hint(_next_step(entry))


def _refusal(update: dict[str, Any]) -> list[object]:
    return [update["round"], update["node_name"], show.node(update["node_id"]), update["reason"]]


def _is_aside(update: dict[str, Any]) -> bool:
    """The rule took nothing of it, though it was fit."""
    return str(update["reason"]).startswith("set-aside")


def _set_aside(entry: dict[str, Any], updates: list[dict[str, Any]]) -> str:
    """Whose updates the rule left out, its choice and nobody's fault: krum set aside: ben 12 rounds, cleo 9."""
    rule = entry.get("manifest", {}).get("aggregation", {}).get("rule", "the rule")
    count = Counter(one_line(update["node_name"] or show.node(update["node_id"])) for update in updates)
    each = [f"{name} {rounds}" for name, rounds in count.most_common()]
    each[0] += " round" if count.most_common(1)[0][1] == 1 else " rounds"
    return f"{rule} set aside: {', '.join(each)}"


def _liars_lack(entry: dict[str, Any], updates: list[dict[str, Any]]) -> str:
    """Where the newest round bore fewer liars than its rule is there for; "" else, and before the first round."""
    from protocol.manifest.words import aggregation_in, dotted, liars_lack

    keys = aggregation_in(dotted(entry.get("manifest", {})))
    newest = max((update["round"] for update in updates), default=0)
    of_it = [update for update in updates if update["round"] == newest]
    seen = sum(1 for update in of_it if update["outcome"] != "refused" or _is_aside(update))
    return liars_lack(keys, seen) if keys is not None and seen else ""


def _how(entry: dict[str, Any]) -> str:
    from protocol.manifest.words import dotted, how_words

    return how_words(dotted(entry.get("manifest", {})))


def _described(entry: dict[str, Any], lack: str = "") -> str:
    aggregator = entry["aggregator_name"] or show.node(entry["aggregator"])
    state = f"{entry['state']} ({entry['reason']})" if entry["reason"] else entry["state"]
    return show.facts(
        [
            ("name", entry["name"]),
            ("run id", entry["run_id"]),
            ("state", state),
            ("now", entry["note"]),
            ("how", _how(entry)),
            ("but", f"round {entry['round']}: {lack}" if lack else ""),
            ("round", f"{entry['round']} of {entry['rounds']}"),
            ("accuracy", _headline(entry, "accuracy")),
            ("loss", _headline(entry, "loss")),
            ("aggregator", f"{aggregator} in term {entry['term']}" if aggregator else ""),
            ("task", entry["task"]),
            ("data set", entry["data"]),
            ("project", f"{entry['project']} / {entry['experiment']}"),
            ("proposed by", entry["proposer_name"] or entry["proposer"]),
            ("created", show.moment(entry["created_at"])),
            ("started", show.moment(entry["started_at"])),
            ("ended", show.moment(entry["ended_at"])),
            ("this node", entry["decision"]),
            *((f"{show.node(each['node_id'])} lied", each["reason"]) for each in entry.get("deposed", ())),
            ("traffic", _traffic(entry)),
            ("since start", _ways(entry)),
        ]
    )


def _headline(entry: dict[str, Any], key: str) -> str:
    """A figure, and of whose data it is as long as it is not of everybody's: reports come in one by one."""
    by, of = entry.get("measured_by", 0), entry.get("measured_of", 0)
    if entry[key] is None or not 0 < by < of:
        return show.figure(entry[key])
    return f"{show.figure(entry[key])} ({by} of {of} nodes{'' if entry['state'] in ENDED else ' so far'})"


def _traffic(entry: dict[str, Any]) -> str:
    """What is recorded of the rounds, by this node, however often it was started anew."""
    if not entry["bytes_moved"]:
        return ""
    return f"{show.size(entry['bytes_moved'])} of models and updates, to and from this node, in committed rounds"


def _ways(entry: dict[str, Any]) -> str:
    """Which way it went: counted since the node's start, and with the round that is under way."""
    sent, received = entry["bytes_sent"], entry["bytes_received"]
    if not sent and not received:
        return ""
    ways = f"{show.size(sent)} sent, {show.size(received)} received for this run, since the node's start"
    return f"{ways} (all its traffic: fednode status)"


def _participant(participant: dict[str, Any]) -> list[object]:
    return [
        participant["name"],
        show.node(participant["node_id"]),
        participant["state"],
        participant["round"],
        participant["samples"],
        "yes" if participant["voter"] else "",
        participant["reason"],
    ]


def _next_step(entry: dict[str, Any]) -> str:
    name = repr(entry["name"])
    if entry["state"] == "STOPPED":
        return f"Next: fednode run resume {name}, fednode run metrics {name}, fednode model get {name}"
    if entry["state"] in ENDED:
        return f"Next: fednode run metrics {name}, fednode model get {name}"
    if entry["decision"] == "undecided":
        return f"Next: fednode run accept {name}, or fednode run decline {name}"
    return f"Next: fednode run metrics {name}, fednode run logs -f {name}, fednode tui"


@run.command("accept")
@click.argument("run_name", metavar="RUN")
@click.option("--data", help="Which of your data sets; may be left out when it has the name that the run asks for.")
@click.option(
    "--task",
    type=click.Path(exists=True, dir_okay=False),
    help="Your copy of the task's file, where RUN's task is one.",
)
@common_options
@click.pass_obj
def accept(answer: Answer, run_name: str, data: str | None, task: str | None) -> None:
    """Take part in RUN with your own data."""
    entry = answer.client().accept(run_name, data=data, task=task)
    answer.give(entry, lambda: f"This node takes part in {entry['name']}: {entry['state']}.")
    answer.hint(f"Next: fednode run show {entry['name']!r}")


@run.command("decline")
@click.argument("run_name", metavar="RUN")
@click.option("--reason", help="For the proposer to read.")
@common_options
@click.pass_obj
def decline(answer: Answer, run_name: str, reason: str | None) -> None:
    """Do not take part in RUN."""
    entry = answer.client().decline(run_name, reason)
    answer.give(entry, lambda: f"This node does not take part in {entry['name']}.")


@run.command("stop")
@click.argument("run_name", metavar="RUN")
@click.option("--reason", help="For everybody to read.")
@common_options
@click.pass_obj
def stop(answer: Answer, run_name: str, reason: str | None) -> None:
    """Stop RUN on all nodes. The last committed checkpoint stays. Where RUN has ended already, say how."""
    entry = answer.client().stop_run(run_name, reason)
    answer.give(entry, lambda: _stopped(entry))


def _stopped(entry: dict[str, Any]) -> str:
    state = f"{entry['state']} ({one_line(entry['reason'])})" if entry["reason"] else entry["state"]
    if entry.get("asked", True):
        return f"{entry['name']} is told to stop: {state}."
    if entry["state"] not in ENDED:
        return f"{entry['name']} was told to stop before: {state}."
    return f"{entry['name']} has ended already, at round {entry['round']} of {entry['rounds']}: {state}."


@run.command("resume")
@click.argument("run_name", metavar="RUN")
@common_options
@click.pass_obj
def resume(answer: Answer, run_name: str) -> None:
    """Let RUN, which was stopped, go on from its newest checkpoint, as soon as most of its voters are up."""
    entry = answer.client().resume_run(run_name)
    answer.give(entry, lambda: f"{entry['name']} goes on after round {entry['round']}. See: {_SHOW} {entry['name']}")


@run.command("extend")
@click.argument("run_name", metavar="RUN")
@click.option("--rounds", type=click.IntRange(1), required=True, help="How many more.")
@common_options
@click.pass_obj
def extend(answer: Answer, run_name: str, rounds: int) -> None:
    """Let RUN last some rounds more, also when it has finished."""
    entry = answer.client().extend_run(run_name, rounds)
    more = f"{rounds} rounds" if rounds > 1 else "1 round"
    answer.give(entry, lambda: f"{entry['name']} gets {more} more. See: {_SHOW} {entry['name']}")
