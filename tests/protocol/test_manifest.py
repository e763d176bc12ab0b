"""The manifest's bytes, the door it comes in by, and the rules over several keys."""

import pytest

from protocol.errors import Refused, RemoteProtocolError
from protocol.manifest.manifest import MANIFEST_BYTES_MAX, Configuration, Manifest, unpack_manifest
from protocol.manifest.read import ManifestError, read_configuration
from protocol.wire import hash_of, pack, pack_plain

SMALL = """
name = "study"
[task]
name = "digits"
parameters = { hidden = 128, name = "mlp" }
[data]
name = "digits"
"""


def configuration(extra: str = "") -> Configuration:
    return read_configuration(SMALL + extra).configuration


def test_golden_bytes() -> None:
    """What is signed must not change by accident: these bytes are the format."""
    raw = pack(configuration().manifest())
    assert len(raw) == 952, raw
    assert hash_of(raw) == "de74daa38e0341ac4d6465f7f483ed5d042c187c8269945db44cf8a300b97d92"


def test_a_manifest_comes_back_as_it_was() -> None:
    manifest = configuration("[roster]\nroles = { b = 'observer', a = 'trainer' }").manifest(roles={"b": "observer"})
    assert unpack_manifest(pack(manifest)) == manifest
    assert pack(unpack_manifest(pack(manifest))) == pack(manifest)


def test_equal_tables_give_equal_bytes_whatever_their_order() -> None:
    other = SMALL.replace('hidden = 128, name = "mlp"', 'name = "mlp", hidden = 128')
    assert pack(configuration().manifest()) == pack(read_configuration(other).configuration.manifest())


def test_whole_numbers_given_for_floats_are_floats_in_the_bytes() -> None:
    one = configuration("[training]\nlearning_rate = 1").manifest()
    assert pack(one) == pack(configuration("[training]\nlearning_rate = 1.0").manifest())


def test_a_task_file_is_named_by_base_name_and_hash() -> None:
    text = SMALL.replace('name = "digits"\nparam', 'path = "/home/me/secret place/my_task.py"\nparam')
    manifest = read_configuration(text).configuration.manifest(task_hash="ab" * 32)
    assert manifest.task.file == "my_task.py"
    assert manifest.task.hash == "ab" * 32
    assert b"secret" not in pack(manifest)


def test_a_manifest_that_would_not_fit_the_log_is_refused() -> None:
    entries = ", ".join(f"k{n} = '{'x' * 900}'" for n in range(64))
    with pytest.raises(Refused, match="bytes"):
        configuration(f"options = {{ {entries} }}").manifest()


def damaged(**changes: object) -> bytes:
    tree = configuration().manifest().model_dump()
    for dotted, value in changes.items():
        *tables, leaf = dotted.split("__")
        table = tree
        for name in tables:
            table = table[name]
        table[leaf] = value
    return pack_plain(tree)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x00" * (MANIFEST_BYTES_MAX + 1),
        damaged(training__rounds=0),
        damaged(training__rounds=2.0),
        damaged(training__rounds=True),
        damaged(training__learning_rate=float("nan")),
        damaged(training__learning_rate=float("inf")),
        damaged(training__extra=1),
        damaged(task__name="os"),
        damaged(task__name=None),
        damaged(task__file="my_task.py"),
        damaged(task__parameters={"a": float("nan")}),
        damaged(task__parameters={"a": {"b": 1}}),
        damaged(task__parameters={"a": None}),
        damaged(task__parameters={"a": 2**64 - 1}),
        damaged(name=" x"),
        damaged(name=""),
        damaged(name="a\x1b[31m"),
        damaged(parent="x"),
        damaged(roster__nodes_max=1),
        damaged(roster__roles={"a": "boss"}),
        damaged(tags=("x",) * 33),
    ],
)
def test_what_does_not_fit_is_refused_at_the_door(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_manifest(raw)


def test_a_file_with_directories_is_refused_at_the_door() -> None:
    task = {"name": None, "file": "../../my_task.py", "hash": "ab" * 32, "parameters": {}}
    with pytest.raises(RemoteProtocolError):
        unpack_manifest(damaged(task=task))


def test_a_manifest_cannot_be_changed() -> None:
    manifest = configuration().manifest()
    with pytest.raises(ValueError, match="frozen"):
        manifest.training.rounds = 3  # type: ignore[misc]
    assert isinstance(manifest, Manifest)


RULES = [
    ("[roster]\nnodes_min = 5\nnodes_max = 4", "roster.nodes_max is 4: it must be at least roster.nodes_min, 5"),
    ("[round]\nupdates_min = 3", "round.updates_min is 3"),
    ("[round]\nfraction = 0.5\nupdates_min = 2", "which could never give so many"),
    ("[timing]\nelection_timeout_s = 2.9", "three times timing.heartbeat_s"),
    ("[timing]\nlost_after_s = 2.0", "timing.lost_after_s is 2.0"),
    ("[timing]\nleave_after_s = 5.0", "timing.leave_after_s is 5.0"),
    ('[training]\noptimizer = "adam"\nmomentum = 0.9', "leave it out with adam"),
    ("[aggregation]\nserver_learning_rate = 0.5", "aggregation.server_optimizer"),
    ('[aggregation]\nrule = "krum"\nweighting = "samples"', "with the rule krum every update counts alike"),
    ('[aggregation]\nrule = "geometric_median"\nweighting = "samples"', "it takes aggregation.weight_max too"),
    ("[aggregation]\nweighting = 'uniform'\nweight_max = 9", 'it belongs to aggregation.weighting = "samples"'),
    ("[aggregation]\nbyzantine_share = 0.3", "the rule mean does not ask for it"),
    ('[aggregation]\npre_aggregation = "nnm"', "before the rule mean it guards against nothing"),
    ('[aggregation]\nrule = "krum"\n[roster]\nnodes_max = 1001', "the rule krum compares every two updates"),
    ('[aggregation]\nrule = "median"\npre_aggregation = "nnm"\n[roster]\nnodes_max = 1001', "mixing compares"),
    ('[aggregation]\nclip = "norm"', "it takes aggregation.clip_norm too"),
    ('[aggregation]\nclip = "median"\nclip_norm = 2.0', 'it belongs to aggregation.clip = "norm"'),
    ('[aggregation]\nmethod = "scaffold"\nclip = "median"', "aggregation.clip is median: aggregation.method"),
    ('[aggregation]\nmethod = "scaffold"\npre_aggregation = "nnm"', "needs every update whole"),
    ('[aggregation]\nrule = "krum"\nclip_radius = 2.0', 'it belongs to the rule "centred_clipping"'),
]


@pytest.mark.parametrize(("extra", "sentence"), RULES)
def test_rules_over_several_keys(extra: str, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        configuration(extra)
    (problem,) = caught.value.problems
    assert sentence in problem


@pytest.mark.parametrize("name", ["node.py", "protocol.py", "my-task.py", "task", "täsk.py", "a.txt", "1.py", ".py"])
def test_a_task_file_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(ManifestError, match=r"task\.path is"):
        read_configuration(f'[task]\npath = "{name}"\n[data]\nname = "d"')


def test_all_broken_rules_come_at_once() -> None:
    with pytest.raises(ManifestError) as caught:
        read_configuration('[data]\nname = "d"\n[roster]\nnodes_max = 1\n[timing]\nheartbeat_s = 60.0')
    assert len(caught.value.problems) == 4, caught.value.problems
