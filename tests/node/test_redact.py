"""What of a log line others may be shown: each rule with what it takes and what it leaves, things planted anywhere, and
texts that are made to take long."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.logs.redact import CHARACTERS_MAX, QUOTED_CHARACTERS_MAX, RULES, Rule, redact

UUID = "123e4567-e89b-12d3-a456-426614174000"
TOKEN = "fednode1-" + "abcdefgh234567" * 20

# By rule: texts, and what is left of them.
TABLE: dict[str, list[tuple[str, str]]] = {
    "literals": [
        ("open '/home/al smith/my data/x y' now", "open <path> now"),
        ('"C:\\\\Users\\\\Al Smith\\\\x"', "<path>"),
        ("{'name': 'Alice', 'age': 34}", "{<data>}"),
        ("['a', 'b']", "[<data>]"),
        (f"column '{'x' * QUOTED_CHARACTERS_MAX}' is bad", f"column '{'x' * QUOTED_CHARACTERS_MAX}' is bad"),
        (f"column '{'x y ' * 10}' is bad", "column <data> is bad"),
        (f"cut short: '{'x y ' * 20}", "cut short: <data>"),
        ("the task's owner and the nodes' data", "the task's owner and the nodes' data"),
    ],
    "urls": [
        ("get https://u:p@h.org/x?t=1 failed", "get <url> failed"),
        ("read file:///etc/passwd", "read <path>"),
        ("s3://bucket/key", "<url>"),
    ],
    "paths": [
        ("open /home/alice/data: no", "open <path> no"),
        ("not there: /home/alice smith/my data/rows", "not there: <path>"),
        ("at C:\\Users\\Alice\\x", "at <path>"),
        ("on \\\\server\\share\\x", "on <path>"),
        ("in ~/x, ~bob/y, ./a, ../b", "in <path>"),
        ("in data/rows.parquet and a/b/c", "in <path> and <path>"),
        ("at %2Fhome%2Falice", "at <path>"),
        ("path=/srv/x", "path=<path>"),
        ("No such file or directory: patients/anna schmidt", "No such file or directory: <path>"),
        ("cat: patients/anna: Permission denied", "cat: <path>: Permission denied"),
        ("step 3/10 at 12.5 it/s, train/loss 0.5", "step 3/10 at 12.5 it/s, train/loss 0.5"),
    ],
    "files": [
        ("read patients_2024.csv twice", "read <path> twice"),
        ("wrote scan.nii.gz.", "wrote <path>"),
        ("torch.nn.functional and self.data", "torch.nn.functional and self.data"),
    ],
    "invitations and secrets": [
        (f"join {TOKEN} now", "join <secret> now"),
        (f"join {TOKEN[:60]}\n  > {TOKEN[60:120]}", "join <secret>"),
        (f"run {UUID} of {'ab12' * 16}", "run <secret> of <secret>"),
        ("key AKIAIOSFODNN7EXAMPLEKEY99 used", "key <secret> used"),
        ("password: hunter2, API_KEY=abc", "password: <secret>, API_KEY=<secret>"),
        (
            "PGPASSWORD=hunter2 psql; the password is hunter2, not x",
            "PGPASSWORD=<secret> psql; the password is <secret>, not x",
        ),
        ("compass: north", "compass: north"),
        ("Authorization: Bearer a.b", "Authorization: <secret>"),
        ("bearer xyz", "bearer <secret>"),
        ("layer_1_attention_weight of 512 tokens per batch", "layer_1_attention_weight of 512 tokens per batch"),
        ("round 3 is committed (ab12cd34ef56)", "round 3 is committed (ab12cd34ef56)"),
    ],
    "e-mail": [("tell a.b+c@hospital.org or root@gpu1", "tell <email> or <email>"), ("recall@10 0.5", "recall@10 0.5")],
    "addresses": [
        ("to 10.0.0.1:8080 and 192.168.1.7.", "to <address> and <address>."),
        ("to fe80::1%eth0, 2001:db8:0:0:0:0:0:1 or 00:1a:2b:3c:4d:5e", "to <address>, <address> or <address>"),
        ("on gpu1.hospital.org and node.klinik.de", "on <address> and <address>"),
        ("at 12:34:56, std::vector, x[::2]", "at 12:34:56, std::vector, x[::2]"),
    ],
    "arrays": [
        ("got tensor([[0.1, 0.2],\n        [0.3, 0.4]]) there", "got <data> there"),
        ("np.array(['a', f(2)], dtype=object) there", "np.<data> there"),
        ("tensor([1,\n  2 is cut", "<data>\n  2 is cut"),
        ("a subarray (of 3)", "a subarray (of 3)"),
        ("got np.float64(98.6) and np.str_('Anna')", "got np.<data> and np.<data>"),
        ("Pandas(Index=0, age=34) and Patient(id=7, name='Anna', of=(1, 2)) there", "<data> and <data> there"),
        ("Linear(in_features=64, bias=True), Dropout(p=0.5)", "Linear(in_features=64, bias=True), Dropout(p=0.5)"),
    ],
    "numbers": [
        ("row [5.1, 3.5, 1.4, 0.2] is odd", "row [<data>] is odd"),
        ("ids 1 2 3 4 5 here", "ids <data> here"),
        ("shape (64, 3, 224, 224), losses 0.5 and 0.7", "shape (64, 3, 224, 224), losses 0.5 and 0.7"),
        ("patient 1234567, 123-45-6789 on 2024-05-01", "patient <number>, <number> on 2024-05-01"),
        ("at (48.137, 11.575) of 1_234_567_890", "at (<data>) of <number>"),
        ("round 0 is committed (1234567ef337)", "round 0 is committed (1234567ef337)"),
        ("run 1234567a: 1234567890ab and 12345678", "run 1234567a: 1234567890ab and <number>"),
        ("1234567kg, 1234567f33", "<number>kg, <number>f33"),
        ("loss 0.123456789 lr 1e-05 of 60000 samples", "loss 0.123456789 lr 1e-05 of 60000 samples"),
    ],
    "tables": [
        ("0   Alice   34", "<data>"),
        ("Alice,34,female", "<data>"),
        ("        [0.3, 4]])", "<data>"),
        ("a\t1\nfine", "<data>\nfine"),
        (
            "it is\nname     Anna Schmidt\nsex         f\nName: p1, dtype: object\nfine",
            "it is\n<data>\n<data>\n<data>\nfine",
        ),
        ("      name   sex\np1    Anna   f\np2    Berta  f", "<data>\n<data>\n<data>"),
        ("    name  age\np1  Anna   34", "<data>\n<data>"),
        ("two  words\nand  more", "two  words\nand  more"),
        ("epoch 3 loss 0.5, accuracy 0.9", "epoch 3 loss 0.5, accuracy 0.9"),
    ],
    "exceptions": [
        ("KeyError: Alice", "KeyError: <data>"),
        ("ValueError: not a float: 'Al' at 37.125 in 12", "ValueError: not a float: <data> at <number> in 12"),
        (
            "Training failed at t.py, line 12, in train: BadRow: 'Al' 4711. To fix: mend it",
            "Training failed at t.py, line 12, in train: BadRow: <data> <number>. To fix: mend it",
        ),
        ("samples: 50000", "samples: 50000"),
        ("BlobError: 12345678f337 is damaged", "BlobError: 12345678f337 is damaged"),
    ],
}


def test_every_rule_has_examples_and_a_sentence() -> None:
    assert [rule.name for rule in RULES] == list(TABLE)
    assert all(rule.says.endswith(".") and rule.says.count(".") == 1 for rule in RULES)


@pytest.mark.parametrize(("text", "left"), [example for examples in TABLE.values() for example in examples])
def test_what_a_rule_takes_and_what_it_leaves(text: str, left: str) -> None:
    assert redact(text) == left
    assert redact(left) == left  # what has been redacted stays as it is


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_no_rule_is_there_for_nothing(rule: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it at least one of its own examples comes out otherwise."""
    monkeypatch.setattr("node.logs.redact.RULES", tuple(other for other in RULES if other is not rule))
    assert any(redact(text) != left for text, left in TABLE[rule.name])  # type: ignore[attr-defined]


def test_a_traceback_keeps_its_files_names_lines_and_kind() -> None:
    told = """Traceback (most recent call last):
  File "/home/alice/study/mean_task.py", line 12, in train
    raise ValueError(f"bad row {row}")
ValueError: bad row ['Alice', 34] of '/srv/data'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "C:\\\\Users\\\\Al\\\\mean_task.py", line 40, in <module>
  File "/srv/data/alice.csv", line 1, in <lambda>
mine.BadRow: patient 4711
weighs 81.25"""
    left = """Traceback (most recent call last):
  File "<path>/mean_task.py", line 12, in train
    raise ValueError(f"bad row {row}")
ValueError: bad row [<data>] of <path>

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "<path>/mean_task.py", line 40, in <module>
  File "<path>", line 1, in <lambda>
mine.BadRow: patient <number>
weighs <number>"""
    assert redact(told) == left


def test_what_the_node_knows_to_be_private_goes_too() -> None:
    private = ("/srv/cohort", "cohort", "gpu-7", "Ann", "x")
    assert (
        redact("/srv/cohort/a.csv of cohort at gpu-7 by ann", private)
        == "<private><path> of <private> at <private> by <private>"
    )
    assert redact("annual x, cohorts", private) == "annual x, cohorts"


def test_what_is_seen_nowhere_hides_nothing() -> None:
    assert redact("at /ho\u200bme/al\x1b[31mice\x1b[0m \x07x") == "at <path> x"
    assert "\ue000" not in redact("\ue000\ue010 x")


# --- planted -----------------------------------------------------------------------------------------------------
WORDS = st.sampled_from(
    ["loading", "epoch 3", "loss 0.5", "the task's", "(", "got:", "=", "->", "ValueError:", "…", ""]
)
SEGMENT = st.from_regex(r"zq[a-z0-9_.-]{1,12}", fullmatch=True)
SPACED = st.from_regex(r"zq[a-z0-9_.-]{1,8}( zq[a-z0-9_.-]{1,8}){0,2}", fullmatch=True)
ROOTS = st.sampled_from(["/", "~/", "C:\\", "D:/", "\\\\", "../", "file:///", "~alice/"])


@settings(max_examples=500)
@given(WORDS, ROOTS, st.lists(SEGMENT, min_size=2, max_size=5), WORDS)
def test_a_planted_path_never_survives(before: str, root: str, parts: list[str], after: str) -> None:
    slash = "\\" if root in ("C:\\", "\\\\") else "/"
    assert "zq" not in redact(f"{before} {root}{slash.join(parts)} {after}")


@settings(max_examples=500)
@given(WORDS, ROOTS, st.lists(SPACED, min_size=2, max_size=5), WORDS, st.sampled_from("'\""))
def test_a_planted_path_with_spaces_in_quotes_never_survives(
    before: str, root: str, parts: list[str], after: str, quote: str
) -> None:
    slash = "\\" if root in ("C:\\", "\\\\") else "/"
    assert "zq" not in redact(f"{before} {quote}{root}{slash.join(parts)}{quote} {after}")


SEPARATORS = st.sampled_from([", ", ",", " ", "\n", ",\n  ", "; ", "], ["])


@settings(max_examples=500)
@given(WORDS, st.lists(st.integers(1000, 9999), min_size=3, max_size=40), SEPARATORS, WORDS, st.booleans())
def test_a_planted_row_of_numbers_never_survives(
    before: str, values: list[int], separator: str, after: str, as_tensor: bool
) -> None:
    row = separator.join(f"77.{value}" for value in values)
    text = f"tensor([[{row}]])" if as_tensor else f"[{row}]"
    assert "77." not in redact(f"{before} {text} {after}")


@settings(max_examples=300)
@given(
    WORDS, st.lists(st.from_regex(r"zq[A-Za-z ]{1,10}", fullmatch=True), min_size=2, max_size=6), st.sampled_from("'\"")
)
def test_a_planted_list_of_literals_never_survives(before: str, values: list[str], quote: str) -> None:
    assert "zq" not in redact(f"{before} [{', '.join(f'{quote}{value}{quote}' for value in values)}]")


@settings(max_examples=300)
@given(st.text(max_size=400))
def test_any_text_is_redacted_and_then_stays(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


OWN_SENTENCES = (
    "round 0 is committed (1234567ef337)",
    "round 12 went without the update of hospital-b: its values are too large (update-too-large)",
    "hospital-a aggregates in term 3",
    "the run is finished",
    "the run is stopped: enough",
    "the run goes on from its newest checkpoint",
    "dropped a message of hospital-b: it signs for another",
    "checkpoint 17 cannot be recomputed yet: The blob 0123456789ab is not here",
    "run 1234567a: its past is filled in later: nobody is there",
    "the model of round 3 is whole again",
    "parameters beyond 1000 were left out, the first of them 'rate'",
)


@pytest.mark.parametrize("sentence", OWN_SENTENCES)
def test_what_fednode_itself_says_stays_readable(sentence: str) -> None:
    assert redact(sentence) == sentence


# --- time --------------------------------------------------------------------------------------------------------
PIECES = [
    *(
        "a",
        "1",
        "/",
        "\\",
        "'",
        '"',
        ".",
        "@",
        ":",
        " ",
        "\n",
        "-",
        "_",
        "=",
        "(",
        "[",
        "1, ",
        "1\n",
        "a.",
        "a/",
        "/a ",
    ),
    *(
        "a/b ",
        "~",
        "'a",
        '"a',
        "\\'",
        "C:\\",
        "::",
        "fednode1-",
        "token=",
        "http://",
        "Error: ",
        "array(",
        "('a',",
        "%2f",
    ),
    *("A(a=", "Permission denied: ", "1_", "password is ", "dtype: x\n", "a  b  c\n"),
    *("%", "12-34-", "a b/", "a  1 ", "1\t", "1,a,", "…", "b'", '  File "/x.py", line 1, in f\n', "<path>", "..."),
]
HOSTILE_CHARACTERS = 2000
CPU_S_MAX = 0.1  # thirty times what the slowest takes; one that takes quadratic time is far above
READINGS = 3


def test_no_text_takes_long() -> None:
    slow = {}
    for first, second in itertools.product(PIECES, PIECES):
        text = ((first + second) * HOSTILE_CHARACTERS)[:HOSTILE_CHARACTERS]
        # What the process does beside, such as looking for garbage, may fall into one reading, and not into all.
        if all(cpu_s_of(text) > CPU_S_MAX for _ in range(READINGS)):
            slow[first + second] = cpu_s_of(text)
    assert not slow


def cpu_s_of(text: str) -> float:
    begun = time.process_time()
    redact(text)
    return time.process_time() - begun


def test_a_text_of_any_length_costs_no_more_than_the_longest() -> None:
    assert len(redact("ab " * CHARACTERS_MAX)) <= CHARACTERS_MAX


def test_a_text_is_cut_before_it_is_looked_at_and_not_within_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def count(text: str) -> str:
        looked_at.append(len(text))
        return text

    monkeypatch.setattr("node.logs.redact.RULES", (Rule("counts", "Counts.", count), *RULES))
    for word in ("x", "x ", "'", "'a',\n"):
        redact(word * 100 * CHARACTERS_MAX)
    assert len(looked_at) == 4
    assert max(looked_at) <= CHARACTERS_MAX
    half = redact("ab " * (CHARACTERS_MAX // 3 - 1) + "anna@hospital.org")
    assert half.endswith("ab")
