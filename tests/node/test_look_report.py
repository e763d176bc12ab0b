"""A run's page: everything is in it, nothing is fetched, and nothing that a peer wrote is more than words."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from look_store import HOSTILE, RUNS, make_store

from node.cli import cli
from node.exports.report import entry_text, facts, page, table, text
from protocol.manifest.words import leaves

VOID = {"meta", "br", "hr", "img", "link", "input"}
FETCHING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background", "formaction", "ping"}


class Reader(HTMLParser):
    """What a browser makes of a page: its tags, their attributes, its words. Raises where a tag is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)], prog_name="fednode")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("report") / "record.duckdb")


@pytest.fixture(scope="module", params=range(3))
def html(store: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """The pages of a run that went well, one that failed, and one that was only proposed."""
    file = tmp_path_factory.mktemp("pages") / "page.html"
    result = report(RUNS[request.param], "--store", store, "-o", file)
    assert result.exit_code == 0, result.output
    return file.read_text(encoding="utf-8")


def test_the_page_stands_alone(html: str) -> None:
    reader = Reader(html)
    assert not {"script", "link", "iframe", "object", "embed", "img", "image", "use", "base", "form"} & set(reader.tags)
    names = {name for name, _ in reader.attributes}
    assert not names & FETCHING
    assert not [name for name in names if name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    namespaces = {value for name, value in reader.attributes if name == "xmlns"}
    assert namespaces == {"http://www.w3.org/2000/svg"}
    policy = [value for _, value in reader.attributes if value and value.startswith("default-src")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "prefers-color-scheme:dark" in html


def test_what_peers_wrote_is_words(html: str) -> None:
    reader = Reader(html)
    assert "<script" not in html
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    assert HOSTILE[:50] in "".join(reader.words)  # shown, and as it was written


def test_every_section_is_there(store: Path, tmp_path: Path) -> None:
    told = json.loads(report(RUNS[1], "--store", store, "-o", tmp_path / "b.html", "--json").stdout)
    html = (tmp_path / "b.html").read_text()
    assert told["bytes"] == len(html.encode())
    words = "\n".join(Reader(html).words)
    for heading in ("Summary", "Curves", "Nodes", "Rounds", "Configuration", "Lineage"):
        assert f"\n{heading}\n" in words
    for said in (
        *("accuracy of the shared model, held-out data", "loss of the nodes' own models, training data"),
        *("term 2", "1 refused", "not finite:", "training.learning_rate", "0.01", "pilot, wide"),
        *("ef" * 32, RUNS[0], "mine.py", "3c" * 32, "3d" * 32, "5e" * 32),  # task, parent, checkpoint, model, schema
        *("0.55", "3 of 3", "35 s", "3.0 kB", "Created 2027-01-15 08:01:40 UTC, started"),
    ):
        assert said in words, said
    assert html.count("<polyline") > 20


def test_what_nodes_did_and_what_came_of_it(store: Path, tmp_path: Path) -> None:
    report(RUNS[0], "--store", store, "-o", tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    words = "\n".join(Reader(html).words)
    for said in (
        *("What the nodes did, and when", "Seconds spent", "Machines", "cpu percent of the machine, percent"),
        *("memory used bytes of the machine, MB", "Artifacts", "confusion.json", "1.2 kB", "a7" * 32),
        *(
            "Settings that nodes told",
            "warm_up",
            "digits-best 1 (champion)",
            "other-digits",
            "accuracy 0.75",
            "f9" * 32,
        ),
        *("a file here", "n1f" * 16, "trainer", "configuration, SHA-256", "a run that starts from it", RUNS[1]),
        *("train in round 1: 3 s", "upload with ada in round 1: 0.5 s, 0.004 MB"),
    ):
        assert said in words, said
    spent = words[words.index("Seconds spent") : words.index("Commits")].split("\n")
    assert [word for word in spent if word.strip()][1:7] == ["node", "aggregate", "fetch", "train", "upload", "wait"]
    for unsaid in ("/home/ada/secret", "(champion, old)", "gone 1", "This record has no times"):
        assert unsaid not in words, unsaid


def test_a_run_without_spans_says_what_its_bars_are(store: Path, tmp_path: Path) -> None:
    report(RUNS[1], "--store", store, "-o", tmp_path / "b.html")
    words = "\n".join(Reader((tmp_path / "b.html").read_text()).words)
    assert "This record has no times of single nodes for this run" in words
    assert "Machines" not in words


def test_the_parent_is_named(store: Path, tmp_path: Path) -> None:
    report(RUNS[1], "--store", store, "-o", tmp_path / "b.html")
    words = Reader((tmp_path / "b.html").read_text()).words
    assert words[words.index("starts from run") + 1 :][:2] == [RUNS[0], "study"]


def test_the_file_is_named_after_the_run_and_stays_here(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert report(RUNS[2], "--store", store).exit_code == 0
    (file,) = tmp_path.iterdir()
    assert re.fullmatch(r"[\w-]+\.html", file.name)
    assert report("nobody", "--store", store).exit_code == 1
    assert report(RUNS[0], "--store", store, "-o", "/no/such/folder/x.html").exit_code == 4


# --- the pieces ----------------------------------------------------------------------------------------------------
def test_pieces_are_escaped_by_themselves() -> None:
    hostile = '"><b onclick=x>'
    whole = (
        page(hostile, hostile, hostile, [], hostile)
        + table([hostile], [[hostile]], codes=[0])
        + table([hostile], [[hostile]])
        + facts([(hostile, hostile)])
    )
    assert "<b onclick" not in whole
    assert text(None) == "–"
    assert text("a\n\x00b") == "a �b"


def test_tables_put_numbers_to_the_right_and_end_somewhere() -> None:
    html = table(["name", "n"], [("a", 1), ("b", None), ("c", 0.123456)])
    assert html.count(' class="n"') == 4
    assert "0.1235" in html
    assert "1 more rows" in table(["n"], [(n,) for n in range(2001)])


def test_nested_keys_are_flattened() -> None:
    value = {"a": {"b": True, "c": [1, 2]}, "d": None, "e": ""}
    entries = [(key, entry_text(entry)) for key, entry in leaves(value)]
    assert entries == [("a.b", "true"), ("a.c", "1, 2"), ("e", "")]
