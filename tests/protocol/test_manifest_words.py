"""What a configuration means, in words: a line that says how it combines, and how many liars its rule bears."""

import pytest

from protocol.manifest.defences import byzantine_count
from protocol.manifest.read import read_configuration
from protocol.manifest.sections import Aggregation, Keys
from protocol.manifest.words import dotted, how_words, liars_borne, liars_lack, liars_warning, liars_words

TAIL = '[task]\nname = "digits"\n[data]\nname = "digits"\n'


def keys_of(aggregation: str, rest: str = "") -> Keys:
    return read_configuration(f"{TAIL}[aggregation]\n{aggregation}\n{rest}").configuration


@pytest.mark.parametrize(
    ("aggregation", "rest", "line"),
    [
        ("", "", "mean · bf16 · no audit"),
        (
            'rule = "trimmed_mean"\ncodec = "int8"\nserver_optimizer = "adam"',
            "",
            "trimmed_mean 0.2 · int8 · adam 0.05 · no audit",
        ),
        ('server_optimizer = "adagrad"', "", "mean · bf16 · adagrad 0.1 · no audit"),
        ('server_optimizer = "momentum"', "", "mean · bf16 · momentum 0.9 · no audit"),
        (
            'server_optimizer = "momentum"\nserver_momentum = 0.0\nserver_learning_rate = 0.5',
            "",
            "mean · bf16 · momentum 0 rate 0.5 · no audit",
        ),
        ('server_optimizer = "yogi"\nserver_learning_rate = 1.0', "", "mean · bf16 · yogi 1 · no audit"),
        ('method = "scaffold"\nscreen_factor = 3.0', "", "mean · bf16 · scaffold · screen 3 · no audit"),
        (
            'rule = "median"\npre_aggregation = "nnm"\nclip = "norm"\nclip_norm = 2.0\ncheckpoint_codec = "fp32"',
            "[training]\nproximal_mu = 0.1",
            "nnm, then median 0.2 · bf16 · checkpoints fp32 · fedprox 0.1 · clip norm 2 · no audit",
        ),
    ],
)
def test_how_a_run_combines_is_one_line(aggregation: str, rest: str, line: str) -> None:
    manifest = keys_of(aggregation, rest).model_dump()
    assert how_words(dotted(manifest)) == line
    assert how_words(dotted({**manifest, "audit": "full"})) == line.replace("no audit", "audit full")


def test_of_what_came_from_elsewhere_nothing_is_said() -> None:
    assert how_words({"rounds": 3}) == ""
    assert how_words({"aggregation.rule": "theirs"}) == ""


@pytest.mark.parametrize(
    ("aggregation", "updates", "borne"),
    [
        ('rule = "trimmed_mean"', 3, 0),
        ('rule = "trimmed_mean"\nbyzantine_share = 0.34', 3, 1),
        ('rule = "trimmed_mean"', 10, 2),
        ('rule = "multi_krum"\nbyzantine_share = 0.34', 3, 0),
        ('rule = "multi_krum"\nbyzantine_share = 0.34', 5, 1),
        ('rule = "krum"\nbyzantine_share = 0.49', 7, 2),
        ('rule = "median"', 2, 0),
        ('rule = "median"', 3, 1),
        ('rule = "geometric_median"', 10, 4),
        ('rule = "median"\npre_aggregation = "nnm"', 3, 0),
        ('rule = "mean"', 10, 0),
    ],
)
def test_how_many_liars_a_rule_bears(aggregation: str, updates: int, borne: int) -> None:
    assert liars_borne(keys_of(aggregation).aggregation, updates) == borne


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.29, 0.3, 0.34, 0.45, 0.49])
@pytest.mark.parametrize("count", [3, 5, 7, 10, 100])
def test_the_share_is_counted_as_the_rules_count_it(share: float, count: int) -> None:
    keys = Aggregation(rule="trimmed_mean", byzantine_share=share)
    assert liars_borne(keys, count) == byzantine_count(share, count)


def test_a_rule_that_bears_nobody_is_told_with_a_way_out() -> None:
    trimmed = liars_lack(keys_of('rule = "trimmed_mean"').aggregation, 3)
    assert "bears no liar" in trimmed
    assert "it is a plain mean" in trimmed
    assert "byzantine_share = 0.34, which bears 1" in trimmed
    krum = liars_lack(keys_of('rule = "multi_krum"\nbyzantine_share = 0.34').aggregation, 3)
    assert "1 liar would take 5 updates" in krum
    assert 'the rule "median", which bears 1' in krum
    assert "fewer than three" in liars_lack(keys_of('rule = "median"').aggregation, 2)
    for fine in ('rule = "median"', 'rule = "mean"', 'rule = "trimmed_mean"\nbyzantine_share = 0.34'):
        assert liars_lack(keys_of(fine).aggregation, 3) == ""


def test_a_run_is_judged_by_the_nodes_that_it_starts_with_and_by_all_of_its_group() -> None:
    keys = keys_of('rule = "trimmed_mean"', "[roster]\nnodes_min = 3")
    assert liars_words(keys, 3) == "liars borne: none of 3"
    assert liars_words(keys, 10) == "liars borne: none of 3, 2 of 10"
    assert liars_warning(keys, 10).endswith("With 10, when all of the group take part, it bears 2")
    assert "of 4 updates" in liars_warning(keys, 4)
    assert liars_warning(keys_of('rule = "trimmed_mean"', "[roster]\nnodes_min = 5"), 9) == ""
    drawn = keys_of('rule = "median"', '[roster]\nnodes_min = 6\nroles = { a = "observer" }\n[round]\nfraction = 0.4')
    assert liars_words(drawn, 6) == "liars borne: none of 2"
    assert liars_words(keys_of(""), 9) == ""
