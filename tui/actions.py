"""What can be done from the dashboard beyond the chosen run: every command by a form, and the dialogs that are better
than a form made of a command: a group, an invitation, joining, a proposal, an answer to one."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tui.drawing.words import date_text
from tui.facts.asks import asking
from tui.facts.commands import CommandSpec, Path, prefilled
from tui.facts.consequences import consequence
from tui.facts.fields import Json, items, moment, number, text
from tui.facts.forms import Field, at_most, length_of_time, reason_field, seconds, whole_number
from tui.facts.inbox import Proposal, proposal_of
from tui.facts.nodes import ROLES, TOLD_OF_ROLES
from tui.facts.proposal import Templates, Verdict
from tui.feeds.command_line import CommandLine, told
from tui.feeds.feed import FeedError
from tui.widgets.dialogs import Question
from tui.widgets.forms import Form, Then, open_form
from tui.widgets.messages import StateMoved
from tui.widgets.palette import Deed
from tui.widgets.propose import ProposeForm
from tui.widgets.windows import CommandWindow, TokenWindow

if TYPE_CHECKING:
    from tui.app import Dashboard

NAME_CHARACTERS_MAX = 80
USES_MAX = 10_000
EXPIRES_S_MAX = 366 * 86_400
LINK_EXPIRES = "1h"
TOKEN_BEGINS = "fednode"
DEVICE_TOKEN_BEGINS = "fednode-link"
ID_CHARACTERS = 12  # of a run whose name is not its own


class Actions:
    """The dashboard's; without a command line there are the dialogs alone."""

    def __init__(self, app: "Dashboard", command_line: CommandLine | None = None) -> None:
        self._app = app
        self._command_line = command_line
        self._specs: Mapping[Path, CommandSpec] = {}
        self._draft = ""  # of a proposal: what was written last
        self._own: dict[Path, tuple[str, Callable[[], None]]] = {
            ("group", "create"): ("Create a group", self.create_group),
            ("invite",): ("Invite somebody", self.invite),
            ("join",): ("Join a group with a token", self.join),
            ("link",): ("Link a device: make another machine a node of yours", self.link),
            ("profile",): ("Change what you say of yourself", self.profile),
        }

    async def load(self) -> None:
        """Learn the commands, once; from then on they are offered."""
        if self._command_line is not None and not self._specs:
            self._specs = {spec.path: spec for spec in await self._command_line.specs()}

    def deeds(self) -> list[Deed]:
        """What has a dialog of its own, and what one most wants to do with a run."""
        deeds = [Deed("Propose a run", "write its configuration; everybody in the group is asked", self.propose, "P")]
        for path, (name, do) in self._own.items():
            deeds.append(Deed(name, f"fednode {' '.join(path)}", do))
        run = self._app.choice.run(self._app.state)
        if run is not None and self._specs:
            given = {"run": self.run_name()}
            for name, path in (
                ("Get the model of", ("model", "get")),
                ("Give more rounds to", ("run", "extend")),
                ("Export to TensorBoard:", ("export", "tensorboard")),
                ("Export to Parquet:", ("export", "parquet")),
                ("Export to MLflow:", ("export", "mlflow")),
            ):
                do = partial(self.open_command, path, given)
                deeds.append(Deed(f"{name} {run.name}", f"fednode {' '.join(path)}", do))
        return deeds

    def command_deeds(self) -> list[Deed]:
        """Everything that the command line does."""
        return [Deed(spec.name, spec.help, partial(self.open_command, path)) for path, spec in self._specs.items()]

    # --- commands ------------------------------------------------------------------------------------------------
    def open_command(self, path: Path, given: Mapping[str, str] | None = None) -> None:
        """Open the form of a command, filled in with what is looked at, and with what is `given` by a parameter's name,
        or by its kind: run, model, group, node, member, data."""
        own = self._own.get(path)
        if own is not None:
            own[1]()
        else:
            self._app.run_worker(self._open(path, given or {}), group="commands")

    async def _open(self, path: Path, given: Mapping[str, str]) -> None:
        await self.load()
        spec, line = self._specs.get(path), self._command_line
        if spec is None or line is None:
            self._app.tell(f"there is no command fednode {' '.join(path)} here", severity="warning")
            return

        async def send(values: dict[str, str]) -> Then:
            return partial(self._run, spec.words(values))

        def shown(values: Mapping[str, str]) -> str:
            return line.shown(spec.words(values))

        def asks(values: Mapping[str, str]) -> str:
            will = consequence(spec.path, values)
            return f"$ {shown(values)}\n\n{will}" if will else ""

        values = prefilled(spec, self.looked_at(), given)
        fields = [parameter.field for parameter in spec.parameters]
        if fields:
            form = Form(
                spec.name, spec.help, fields, send, preview=lambda now: f"$ {shown(now)}", asks=asks, values=values
            )
            open_form(self._app, form)
        elif question := asks({}):
            self._app.push_screen(
                Question(f"{spec.name}?", question), lambda yes: self._run(spec.words({})) if yes else None
            )
        else:
            self._run(spec.words({}))

    def _run(self, words: list[str]) -> None:
        line = self._command_line
        assert line is not None

        async def run(hear: Callable[[list[str]], object], columns: int) -> str:
            try:
                return told(await line.run(words, columns, hear))
            finally:
                self.look_again()

        self._app.push_screen(CommandWindow(line.shown(words), run))

    def look_again(self) -> None:
        """Something was changed by our doing: whatever is in sight is asked anew."""
        self._app.questions.ask_anew()
        self._app.post_message(StateMoved())

    # --- what is looked at ---------------------------------------------------------------------------------------
    def looked_at(self) -> dict[str, str]:
        """By the words of the command line: run, group, node, member, data, model, artifact …, as far as there are."""
        found = {"run": self.run_name(), "group": next(iter(self.group_names()), "")}
        if self._command_line is not None:
            found["store"] = self._command_line.store
        return found | dict(self._app.view.looked_at())

    def run_name(self) -> str:
        """What the chosen run is called on the command line: its name where it alone has it, else the beginning of its
        id; nothing without a run."""
        run, runs = self._app.choice.run(self._app.state), self._app.state.runs()
        if run is None:
            return ""
        is_its_own = sum(each.name == run.name for each in runs) == 1 and not run.name.startswith("-")
        return run.name if is_its_own else run.run_id[:ID_CHARACTERS]

    def group_names(self) -> tuple[str, ...]:
        """Our groups, the one that is looked at first."""
        names = sorted(group.name for group in self._app.state.groups.values())
        first = self._app.view.looked_at().get("group", "")
        return tuple(sorted(names, key=lambda name: name != first))

    # --- dialogs -------------------------------------------------------------------------------------------------
    def accept(self, run_id: str, *, is_in_sight: bool = False) -> None:
        """Take part in a run. Who asks for what is shown and confirmed first, unless it `is_in_sight`; what is not
        clear, which data set or where the task's file is, is asked for."""
        self._app.run_worker(self._accept(run_id, is_in_sight), group="accepting", exclusive=True)

    async def _accept(self, run_id: str, is_in_sight: bool) -> None:
        feed, name = self._app.feed, self._name_of(run_id)
        try:
            proposal = proposal_of(await feed.ask(asking("runs", run_id, "proposal")))
        except FeedError as error:
            self._app.tell(str(error), severity="error")
            return

        async def send(values: dict[str, str]) -> None:
            task = _expanded(values.get("task", "")) or None
            await feed.tell("POST", "runs", run_id, "accept", data=values.get("data") or None, task=task)
            self._app.tell(f"accepted {name}")

        def take_part(yes: bool | None) -> None:
            if yes:
                self._app.do(feed.tell("POST", "runs", run_id, "accept"), f"accepted {name}")

        asked = accept_words(proposal)
        if fields := accept_fields(proposal):
            self._app.push_screen(Form(f"Accept {name}", asked, fields, send))
        elif is_in_sight:
            take_part(True)
        else:
            self._app.push_screen(Question(f"Accept {name}?", asked), take_part)

    def decline(self, run_id: str) -> None:
        """Take no part in a run, after asking once; a reason may be given."""
        name = self._name_of(run_id)

        async def send(values: dict[str, str]) -> None:
            await self._app.feed.tell("POST", "runs", run_id, "decline", reason=values["reason"] or None)
            self._app.tell(f"declined {name}")

        what = f"This node takes no part in {name}, and its proposer is told so. Until it is over you can still accept."
        reason = reason_field("The proposer reads it. It may stay empty.")
        self._app.push_screen(Form(f"Decline {name}", what, [reason], send, asks=lambda _values: what))

    def _name_of(self, run_id: str) -> str:
        run = self._app.state.run(run_id)
        return run.name if run else "the run"

    def create_group(self) -> None:
        """Ask for a name, and create the group."""

        async def send(values: dict[str, str]) -> Then:
            made = await self._app.feed.tell("POST", "groups", name=values["name"])
            self._app.tell(f"group {text(made, 'name')} is there; let others in with an invitation")
            return self.look_again

        name = Field("name", "name", "what everybody will call it", needed=True, check=at_most(NAME_CHARACTERS_MAX))
        intro = "Begin a group, with you as its admin. Others enter by invitation."
        open_form(self._app, Form("Create a group", intro, [name], send))

    def invite(self) -> None:
        """Ask what the invitation is to allow, and show its token."""
        fields = [
            Field("role", "role", TOLD_OF_ROLES, ROLES[0], ROLES),
            Field("uses", "uses", "how many may enter by it", "1", needed=True, check=whole_number(1, USES_MAX)),
            Field("expires", "good for", "12h, 7d, 4w", "7d", needed=True, check=length_of_time(EXPIRES_S_MAX)),
        ]
        groups = self.group_names()
        if len(groups) > 1:
            fields.insert(0, Field("group", "group", "into which group", groups[0], groups))
        intro = "Whoever has the token may enter. Send it over a channel that you trust."
        open_form(self._app, Form("Invite", intro, fields, self._invite))

    async def _invite(self, values: dict[str, str]) -> Then:
        body = {"group": values.get("group"), "role": values["role"], "uses": int(values["uses"])}
        made = await self._app.feed.tell("POST", "invitations", **body, expires_s=seconds(values["expires"]), qr=True)
        uses = "once" if number(made, "uses") == 1 else f"{number(made, 'uses')} times"
        said = f"Who has it enters {text(made, 'group')} as {text(made, 'role')}, {uses}, within {values['expires']}."
        self.look_again()
        return partial(self._app.push_screen, TokenWindow("Invitation", said, text(made, "token")))

    def join(self) -> None:
        """Ask for a token, and enter the group with it."""

        async def send(values: dict[str, str]) -> Then:
            entered = await self._app.feed.tell("POST", "join", token="".join(values["token"].split()))
            self._app.tell(f"you are in {text(entered, 'name')} as {text(entered, 'role')}")
            return self.look_again

        def check(token: str) -> str:
            if token.lower().startswith(DEVICE_TOKEN_BEGINS):
                return "a device token would make this machine its maker's: use fednode join in a terminal"
            begins = token.lower().startswith(TOKEN_BEGINS) or TOKEN_BEGINS.startswith(token.lower())
            return "" if begins else f"a token begins with {TOKEN_BEGINS}"

        told = "paste it; lines and spaces in it do no harm"
        token = Field("token", "token", told, needed=True, check=check, is_token=True)
        intro = "A member of the group must be reachable: it lets you in."
        open_form(self._app, Form("Join a group", intro, [token], send))

    def link(self) -> None:
        """Ask how long the token is to be good for, and show it."""
        told = "15m, 1h, 1d; as short as it takes you to go to the other machine"
        expires = Field("expires", "good for", told, LINK_EXPIRES, needed=True, check=length_of_time(EXPIRES_S_MAX))
        intro = "Another machine of yours becomes your node, in all of your groups at once, by a token that works once."
        open_form(self._app, Form("Link a device", intro, [expires], self._link))

    async def _link(self, values: dict[str, str]) -> Then:
        made = await self._app.feed.tell("POST", "nodes", "link", expires_s=seconds(values["expires"]))
        said = (
            f"On the other machine: fednode start --link TOKEN. Good for one machine, until "
            f"{date_text(moment(made, 'expires_at'))}. Whoever uses it is you: show it to nobody."
        )
        self.look_again()
        return partial(self._app.push_screen, TokenWindow("Device link", said, text(made, "token")))

    def profile(self) -> None:
        """Change what everybody in one's groups reads about oneself."""
        self._app.run_worker(self._profile(), group="commands")

    async def _profile(self) -> None:
        try:
            now = await self._app.feed.ask(asking("profile"))
        except FeedError as error:
            self._app.tell(str(error), severity="error")
            return
        check = at_most(NAME_CHARACTERS_MAX)
        fields = [
            Field("name", "name", "what you are called", needed=True, check=check),
            Field("organisation", "organisation", "where you belong; may stay empty", check=check),
            Field("contact", "contact", "how people reach you: mail, telephone; may stay empty", check=check),
        ]

        async def send(values: dict[str, str]) -> Then:
            await self._app.feed.tell("PUT", "profile", **values)
            self._app.tell("your profile is on its way to your groups")
            return self.look_again

        values = {field.name: text(now, field.name) for field in fields}
        intro = "Everybody in your groups reads it, as your claim: nobody checks it."
        open_form(self._app, Form("Profile", intro, fields, send, values=values))

    # --- proposing -----------------------------------------------------------------------------------------------
    def propose(self) -> None:
        """Write a run's configuration and propose it."""
        self._app.run_worker(self._propose(), group="commands")

    async def _propose(self) -> None:
        try:
            templates = await self._app.feed.ask(asking("templates"))
            data = await self._app.feed.ask(asking("data"))
        except FeedError as error:
            self._app.tell(str(error), severity="error")
            return
        names = tuple(text(each, "name") for each in items(data, "data"))
        known = Templates.of(templates, names)
        config = self._draft or next(iter(known.texts.values()), "")
        open_form(self._app, ProposeForm(known, self.group_names(), config, self._check, self._send_proposal))

    async def _check(self, config: str, group: str) -> Verdict:
        self._draft = config
        return Verdict.of(await self._app.feed.tell("POST", "runs", "check", config=config, group=group or None))

    async def _send_proposal(self, config: str, group: str) -> Then:
        made: Json = await self._app.feed.tell("POST", "runs", config=config, group=group or None)
        self._draft = ""
        self._app.tell(f"{text(made, 'name')} is proposed")
        self.look_again()
        return partial(self._app.look_at_run, text(made, "run_id"))


def accept_words(proposal: Proposal) -> str:
    """What one says yes to: who asks, whose code runs, on which data."""
    who, member = proposal.proposer_name or "Somebody", proposal.proposer_member
    asks = f"{who}{f', a node of {member},' if member and member != who else ''} proposes it."
    return "\n".join(filter(None, (asks, proposal.code, proposal.data)))


def accept_fields(proposal: Proposal) -> list[Field]:
    """What must be said before a run can be accepted: which data set, which file, where that is not clear."""
    fields = []
    if not proposal.data_here:
        help_text = f"The run asks for one called {proposal.data_wanted}. What is chosen stays here."
        fields.append(Field("data", "data set", help_text, choices=proposal.data_names, needed=True))
    if not proposal.code_here:
        help_text = (
            "The path of your copy, once you have read it: it will run on this machine. The node checks its hash."
        )
        fields.append(Field("task", "task file", help_text, needed=True, check=_whole_path))
    return fields


def _whole_path(path: str) -> str:
    return "" if os.path.isabs(_expanded(path)) else "a whole path, such as /home/me/task.py or ~/task.py"


def _expanded(path: str) -> str:
    return os.path.expanduser(path)
