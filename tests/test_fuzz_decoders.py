"""Whatever bytes come: each decoder refuses them in its own words, in bounded time and memory, or takes them.

`FEDNODE_FUZZ_EXAMPLES=20000 pytest tests/test_fuzz_decoders.py` looks for longer, and elsewhere each time.
"""

import ast
from collections.abc import Iterator

import fuzz_files
import fuzz_messages
import pytest
from fuzzing import EXAMPLES, EXAMPLES_BY_DEFAULT, check, hostile
from hypothesis import HealthCheck, given, settings
from test_house import ROOMS, modules, name_of, tree_of

DECODERS = {decoder.name: decoder for decoder in [*fuzz_messages.decoders(), *fuzz_files.decoders()]}
PARSERS = {"unpackb", "Unpacker", "validate_json", "model_validate_json", "unpack_from", "iter_unpack", "open_signed"}
PARSERS_BY_FULL_NAME = {"json.loads", "json.load", "tomllib.loads", "tomllib.load", "np.load", "struct.unpack"}
# What nobody but the owner and the owner's own node writes: a file of the home, a row of the store, an answer of our
# own process, the owner's data.
OURS = {
    *("node.cli.data:settings_of", "node.cli.predict_files:write_as", "node.cli.record_client:_plain"),
    *("node.data.datasets:DataSets.load", "node.data.datasets:_check_options", "node.demo.processes:_outcome"),
    *("node.demo.scorer:Scorer.run", "node.demo.scores:requests.read", "node.detach:start_detached"),
    *(
        "node.membership.group_place:load_place",
        "node.membership.groups:Groups.load",
        "node.home.home:read_settings",
        "node.home.limits:Limits.set",
        "node.api.inbox.seen:_ids_in",
    ),
    *(
        "node.run.models:models_in",
        "node.run.known_run:KnownRun.load_decision",
        "node.network.libp2p.faults:Faults._look",
    ),
    *("node.run.policy:Policy.load", "node.record.predict:Predictor._manifest", "node.system.prometheus:Counts.count"),
    *("node.run.task_files:TaskFiles.load", "node.tasks.digits:_read", "node.tasks.tables:_read_npz"),
    *("node.membership.siblings:read_siblings", "tracker.queries.queries:compile_query.decode"),
    # An import lets such columns in only where they hold JSON of the right form, which is not deep.
    *("tracker.imports.rules:_check_json", "node.cli.report_lineage:_figures"),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_refuses_what_it_cannot_read(name: str) -> None:
    decoder = DECODERS[name]

    @settings(
        max_examples=EXAMPLES or EXAMPLES_BY_DEFAULT,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile(decoder.examples))
    def decodes(data: bytes) -> None:
        check(decoder, data)

    for example in decoder.examples:
        check(decoder, example)
    decodes()


def parsers() -> Iterator[str]:
    """Every function of ours in which bytes or text become values, as module:name."""
    for path in modules():
        room, *_ = parts = name_of(path).removesuffix(".py").split("/")
        if room in ROOMS and room != "simulations":
            yield from (f"{'.'.join(parts)}:{name}" for name in _parsing(tree_of(path), ""))


def _parsing(node: ast.AST, name: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{name}.{child.name}".lstrip(".")
        elif isinstance(child, ast.Call):
            called = ast.unparse(child.func)
            if called in PARSERS_BY_FULL_NAME or called.rpartition(".")[2] in PARSERS:
                yield name
        yield from _parsing(child, inner)


def test_no_decoder_is_forgotten() -> None:
    """A function that parses is fuzzed here, or reads what is the owner's own."""
    covered = {place for decoder in DECODERS.values() for place in decoder.covers}
    found = set(parsers())
    assert not (missing := found - covered - OURS), f"neither fuzzed nor the owner's own: {sorted(missing)}"
    assert not (gone := (covered | OURS) - found), f"no longer there: {sorted(gone)}"
