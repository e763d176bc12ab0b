"""This node's data sets with their statistics, the models of its registry, and what tasks have made.

Three tabs, one at a time; side by side where the screen is broad enough.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.events import Resize

from tui.drawing.grid import ListRows, matching
from tui.drawing.picture import Picture, Span
from tui.facts.asks import NO_ANSWER, Ask, Wish, asking
from tui.facts.fields import Json
from tui.facts.glance import Glance
from tui.views.data_rows import (
    DATA_COLUMNS,
    STATISTIC_COLUMNS,
    data_rows,
    statistic_in_full,
    statistic_note,
    statistic_rows,
)
from tui.views.model_rows import (
    ARTIFACT_COLUMNS,
    FACT_COLUMNS,
    MODEL_COLUMNS,
    artifact_rows,
    fact_rows,
    model_rows,
    unnamed_rows,
)
from tui.views.view import View
from tui.widgets.dialogs import Dialog
from tui.widgets.messages import RowEntered
from tui.widgets.palette import Deed
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

DATA = asking("data")
MODELS = asking("models")
BROAD_CELLS = 150  # of the screen, from which on the tabs stand side by side
TABS = {
    "data": ("d", "data sets", "data-sets"),
    "models": ("e", "models", "models"),
    "made": ("f", "artifacts", "made"),
}
NO_DATA = "no data set is registered: fednode data add registers one (key +)"
NO_MODELS = "no model has a name: u lists those of the chosen run, T gives one a name"


class DataView(View):
    """Tables in pairs: what there is, and all about the one under the cursor."""

    filtered = "data-sets"
    first = "data-sets"
    keys: ClassVar[Sequence[tuple[str, str]]] = (
        ("d e f", "data sets, models, artifacts"),
        ("u", "models without a name, of the chosen run; again: not"),
        ("A", "artifacts of all runs; again: of the chosen one"),
        ("Enter", "a column, a model's fact, an artifact in full"),
        ("+", "add a data set"),
        ("T U", "give the model a name or alias; take an alias away"),
        ("w", "write the model, or the artifact, to a file"),
    )
    DEFAULT_CSS = """
    DataView #data-tabs { height: 1; }
    DataView #data-halves { height: 1fr; }
    DataView .tab { display: none; width: 1fr; height: 1fr; layout: vertical; }
    DataView.-data #tab-data, DataView.-models #tab-models, DataView.-made #tab-made { display: block; }
    DataView.-broad #tab-data, DataView.-broad #tab-models { display: block; }
    DataView.-broad #tab-right { width: 1fr; height: 1fr; layout: vertical; }
    DataView #tab-right { height: 1fr; }
    DataView.-broad #tab-made { display: block; height: 30%; }
    DataView.-broad #data-tabs { display: none; }
    DataView.-data #tab-right { width: 0; }
    DataView.-data.-broad #tab-right { width: 1fr; }
    DataView #data-sets { height: 2fr; }
    DataView #statistics { height: 3fr; }
    DataView #models { height: 2fr; }
    DataView #model { height: 3fr; }
    DataView #made { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"tab('{name}')", title, show=False) for name, (key, title, _) in TABS.items()),
        Binding("u", "unnamed", "unnamed models", show=False),
        Binding("A", "all_runs", "artifacts of all runs", show=False),
        Binding("plus", "add_data", "add data", show=False),
        Binding("T", "tag", "tag", show=False),
        Binding("U", "untag", "untag", show=False),
        Binding("w", "write", "write to a file", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._tab = "data"
        self._with_unnamed = False
        self._of_all_runs = False
        self._made: tuple[object, object, ListRows] = (None, None, ListRows())

    def compose(self) -> ComposeResult:
        yield PictureView(id="data-tabs")
        with Horizontal(id="data-halves"):
            with Container(id="tab-data", classes="tab"):
                yield RowTable(DATA_COLUMNS, id="data-sets", title="Data sets", empty=NO_DATA)
                yield RowTable(STATISTIC_COLUMNS, id="statistics", title="Statistics", empty="none are known")
            with Container(id="tab-right"):
                with Container(id="tab-models", classes="tab"):
                    yield RowTable(MODEL_COLUMNS, id="models", title="Models", empty=NO_MODELS)
                    yield RowTable(FACT_COLUMNS, id="model", title="Model", empty="no model is chosen", headed=False)
                with Container(id="tab-made", classes="tab"):
                    yield RowTable(ARTIFACT_COLUMNS, id="made", title="Artifacts", empty="none were made here")

    def on_mount(self) -> None:
        self.set_class(True, "-data")

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= BROAD_CELLS, "-broad")

    # What is asked

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        """Data sets and the registry change by deeds, of which the node tells; a run's models and artifacts come with
        its rounds."""
        changed, run = glance.state.changed, glance.run
        progress = (run.round, run.state) if run else None
        if self._sees("data"):
            yield Wish(DATA, changed.get("data"))
            if name := self.table("data-sets").cursor_key:
                yield Wish(asking("data", name), changed.get("data"))
        if self._sees("models"):
            yield Wish(MODELS, changed.get("models"))
            if self._with_unnamed and run:
                yield Wish(asking("models", of=run.run_id), (changed.get("models"), progress))
            if model := self.table("models").cursor_key:
                yield Wish(asking("models", model), changed.get("models"))
        if self._sees("made"):
            going = tuple((each.run_id, each.round) for each in glance.state.runs() if not each.ended)
            yield Wish(self._artifacts(glance), going if self._of_all_runs else progress)

    def _sees(self, tab: str) -> bool:
        return self._tab == tab or self.has_class("-broad")

    def _artifacts(self, glance: Glance) -> Ask:
        run = glance.run
        return asking("artifacts") if self._of_all_runs or not run else asking("runs", run.run_id, "artifacts")

    # What is shown

    def show(self, glance: Glance) -> None:
        if not self.has_class("-broad"):
            tab = self._tab
            self.query_one("#data-tabs", PictureView).show(lambda width, height: tab_line(tab, width, height))
        if self._sees("data"):
            self._show_data(glance)
        if self._sees("models"):
            self._show_models(glance)
        if self._sees("made"):
            self._show_made(glance)

    def _show_data(self, glance: Glance) -> None:
        answers, table = glance.state.answers, self.table("data-sets")
        self._fill(glance, table, "Data sets", answers.read(DATA, data_rows), answers.trouble(DATA))
        ask, statistics = asking("data", table.cursor_key), self.table("statistics")
        note = answers.trouble(ask) or answers.read(ask, statistic_note)
        known = not table.cursor_key or answers.known(ask)
        title = f"Statistics of {table.cursor_key}" if table.cursor_key else "Statistics"
        statistics.set_words(title, note if known or note else "being worked out …")
        statistics.show(answers.read(ask, statistic_rows))

    def _show_models(self, glance: Glance) -> None:
        answers, table = glance.state.answers, self.table("models")
        rows, run = answers.read(MODELS, model_rows), glance.run
        if self._with_unnamed and run:
            rows = ListRows([*rows, *answers.read(asking("models", of=run.run_id), unnamed_rows)])
        self._fill(glance, table, "Models", rows, answers.trouble(MODELS))
        ask, facts = asking("models", table.cursor_key), self.table("model")
        facts.set_words("Lineage and evaluations" if table.cursor_key else "Model", answers.trouble(ask))
        facts.show(fact_rows(answers.get(ask) if table.cursor_key else NO_ANSWER, glance.state.names))

    def _show_made(self, glance: Glance) -> None:
        ask = self._artifacts(glance)
        answer = glance.state.answers.get(ask)
        if self._made[:2] != (id(answer), len(answer)):
            names = {run.run_id: run.name for run in glance.state.runs()}
            self._made = (id(answer), len(answer), artifact_rows(answer, names))
        whose = "all runs" if self._of_all_runs or not glance.run else glance.run.name
        self._fill(
            glance, self.table("made"), f"Artifacts of {whose}", self._made[2], glance.state.answers.trouble(ask)
        )

    def _fill(self, glance: Glance, table: RowTable, title: str, rows: ListRows, trouble: str) -> None:
        wanted = glance.choice.filter(table.id or "")
        shown = matching(rows, wanted)
        count = f" {len(shown)} of {len(rows)} /{wanted}" if wanted else f" {len(rows)}" if rows else ""
        table.set_words(f"{title}{count}", trouble)
        table.show(shown)

    # Deeds

    def on_row_entered(self, message: RowEntered) -> None:
        """A column of a data set is shown with all that is known of it; other rows by the app."""
        name = self.table("data-sets").cursor_key
        if message.table == "statistics":
            told = statistic_in_full(self.dashboard.state.answers.get(asking("data", name)), message.key)
            if told:
                message.stop()
                self.app.push_screen(Dialog(f"{message.key} of {name}", told))

    def action_tab(self, name: str) -> None:
        for tab in TABS:
            self.set_class(tab == name, f"-{tab}")
        self._tab, self.filtered = name, TABS[name][2]
        self.table(self.filtered).focus()
        self.dashboard.paint()

    def action_unnamed(self) -> None:
        self._with_unnamed = not self._with_unnamed
        self.action_tab("models")

    def action_all_runs(self) -> None:
        self._of_all_runs = not self._of_all_runs
        self.action_tab("made")

    def action_add_data(self) -> None:
        self.dashboard.open_command(("data", "add"))

    def action_tag(self) -> None:
        if model := self.table("models").cursor_key:
            self.dashboard.open_command(("model", "tag"), {"name": model})

    def action_untag(self) -> None:
        model = self._model
        aliases = model.get("aliases")
        if model.get("name") and isinstance(aliases, list) and aliases:
            self.dashboard.open_command(("model", "untag"), {"entry": f"{model['name']}@{aliases[0]}"})
        else:
            self.dashboard.tell("this model has no alias")

    def action_write(self) -> None:
        """The artifact where one looks at artifacts, else the model."""
        focused = self.app.focused
        if focused is not None and focused.id == "made":
            run, node, name = (*self.table("made").cursor_key.split(" ", 2), "", "", "")[:3]
            if name:
                given = {"run_name": run, "name": name, "node": node}
                self.dashboard.open_command(("artifacts", "get"), given)
        elif model := self.table("models").cursor_key:
            self.dashboard.open_command(("model", "get"), {"name": model})

    def deeds(self) -> Sequence[Deed]:
        deeds = [Deed("Add a data set", "key +", self.action_add_data)]
        for name, (key, title, _) in TABS.items():
            deeds.append(Deed(f"Show {title}", f"key {key}", partial(self.action_tab, name)))
        if model := self.table("models").cursor_key:
            deeds.append(Deed(f"Give {model} a name or an alias", "key T", self.action_tag))
            deeds.append(Deed(f"Take an alias from {model}", "key U", self.action_untag))
            deeds.append(Deed(f"Write {model} to a file", "key w", self.action_write))
        return deeds

    def looked_at(self) -> Mapping[str, str]:
        found = {"data": self.table("data-sets").cursor_key, "model": self.table("models").cursor_key}
        made = self.table("made").cursor_key.split(" ", 2)
        return {**found, "artifact": made[-1]}

    @property
    def _model(self) -> Json:
        """The MODEL under the cursor, as it was told."""
        return self.dashboard.state.answers.get(asking("models", self.table("models").cursor_key))


def tab_line(shown: str, width: int, height: int) -> Picture:
    """The tabs by their keys, the one that is shown among them marked."""
    spans: list[Span] = []
    for name, (key, title, _) in TABS.items():
        words = f"[{key} {title}]" if name == shown else f" {key} {title} "
        spans.append(Span(words, "here" if name == shown else "dim"))
    spans.append(Span(" " * max(width - sum(len(span.text) for span in spans), 0)))
    return Picture(width, height, (tuple(spans), *((Span(" " * width),),) * (height - 1)))
