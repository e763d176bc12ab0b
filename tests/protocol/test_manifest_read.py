"""Reading a configuration: every error names the key, what was given, what is allowed; aliases are reported."""

import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.manifest.read import CONFIGURATION_CHARACTERS_MAX, ManifestError, read_configuration

TAIL = '[task]\nname = "digits"\n[data]\nname = "digits"\n'


def problems(text: str, **options: object) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        read_configuration(text, **options)  # type: ignore[arg-type]
    return caught.value.problems


ERRORS = [
    ("[training]\nrounds = 0", "training.rounds is 0; allowed is a whole number from 1 to 1,000,000"),
    ("[training]\nrounds = 1.0", "training.rounds is 1.0; allowed is a whole number from 1 to 1,000,000"),
    ('[training]\nrounds = "5"', 'training.rounds is "5"; allowed is a whole number from 1 to 1,000,000'),
    ("[training]\nrounds = true", "training.rounds is true; allowed is a whole number from 1 to 1,000,000"),
    ("[training]\nlearning_rate = nan", "training.learning_rate is nan; allowed is a number above 0 to 1,000"),
    ("[training]\nlearning_rate = inf", "training.learning_rate is inf; allowed is a number above 0 to 1,000"),
    ("[training]\nlearning_rate = true", "training.learning_rate is true; allowed is a number above 0 to 1,000"),
    ("[training]\nlearning_rate = 0", "training.learning_rate is 0; allowed is a number above 0 to 1,000"),
    ("[round]\nfraction = 1.5", "round.fraction is 1.5; allowed is a number above 0 to 1"),
    ("[training]\nmomentum = 1.0", "training.momentum is 1.0; allowed is a number from 0 to below 1"),
    ('[training]\noptimizer = "lion"', 'training.optimizer is "lion"; allowed is "sgd" or "adam"'),
    ("[aggregation]\ncodec = 16", 'aggregation.codec is 16; allowed is "fp32" or "bf16"'),
    ("[training]\nlearn_rate = 1.0", "training.learn_rate is not a known key; did you mean training.learning_rate?"),
    ("[aggregation]\ntrim = 0.2", "aggregation.trim is not a known key; did you mean aggregation.byzantine_share?"),
    ("[aggregation]\nf = 1", "aggregation.f is not a known key; did you mean aggregation.byzantine_share?"),
    ("[training]\ncodec = 1", "training.codec is not a known key; did you mean aggregation.codec?"),
    ("[trainng]\nrounds = 1", "trainng is not a known key; did you mean training?"),
    ("[zzz]\nqqq = 1", "zzz is not a known key"),
    ("[roster]\nroles = {alice = 'boss'}", 'roster.roles.alice is "boss"; allowed is a table of node = "trainer", '),
    ("[training]\nrounds = 2024-01-01", "training.rounds is 2024-01-01; allowed is a whole number"),
]


@pytest.mark.parametrize(("text", "sentence"), ERRORS)
def test_an_error_names_key_given_and_allowed(text: str, sentence: str) -> None:
    (problem,) = problems(f"{text}\n{TAIL}")
    assert problem.startswith(sentence), problem


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('method = "fedprox"', "; FedProx is training.proximal_mu, such as 0.1"),
        ('rule = "FedAdam"', '; this is aggregation.server_optimizer = "adam"'),
        ('method = "Fed-Adam"', ""),
        ('rule = "scaffold"', '; this is aggregation.method = "scaffold"'),
    ],
)
def test_what_another_key_says_is_told(text: str, meant: str) -> None:
    (problem,) = problems(f"[aggregation]\n{text}\n{TAIL}")
    assert problem.endswith(meant or '"scaffold"')


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ('rule = "trimmed-mean"', "rule", "trimmed_mean"),
        ('rule = "Multi Krum"', "rule", "multi_krum"),
        ('rule = "FedAvg"', "rule", "mean"),
        ('server_optimizer = "FedAdam"', "server_optimizer", "adam"),
        ('server_optimizer = "fedavgm"', "server_optimizer", "momentum"),
    ],
)
def test_other_spellings_are_understood_and_told(text: str, key: str, value: str) -> None:
    reading = read_configuration(f"[aggregation]\n{text}\n{TAIL}")
    assert getattr(reading.configuration.aggregation, key) == value
    assert f'taken as "{value}"' in reading.taken_as[0]


def test_an_algorithm_may_be_a_server_optimizer() -> None:
    aggregation = read_configuration(f'algorithm = "FedYogi"\n{TAIL}').configuration.aggregation
    assert (aggregation.rule, aggregation.server_optimizer, aggregation.server_rate) == ("mean", "yogi", 0.05)


TOP_LEVEL_ERRORS = [
    ("training = 3", "training is 3; allowed is a table, [training]"),
    ('tags = "a"', 'tags is "a"; allowed is a list of at most 32 names'),
    ("seed = -1", "seed is -1; allowed is a whole number from 0 to below 9,007,199,254,740,992"),
    ('name = "a\\u001bb"', 'name is "a\\u001bb"; allowed is a name of 1 to 80 characters on one line'),
    ('nme = "a"', "nme is not a known key; did you mean name?"),
    ("comm_rounds = 3", "comm_rounds is not a known key; did you mean comm_round?"),
    ('audit = "all"', 'audit is "all"; allowed is "none" or "spot" or "full"'),
]


@pytest.mark.parametrize(("text", "sentence"), TOP_LEVEL_ERRORS)
def test_top_level_errors(text: str, sentence: str) -> None:
    assert problems(f"{text}\n{TAIL}") == (sentence,)


PARAMETER_ERRORS = [
    ("{ a = nan }", "task.parameters.a is nan; allowed is true or false, a finite number"),
    ("{ a = { b = 1 } }", 'task.parameters.a is {"b" = 1}; allowed is'),
    ("{ a = [1, nan] }", "task.parameters.a is [1, nan]; allowed is"),
    ("3", "task.parameters is 3; allowed is a table of"),
]


def test_lists_of_parameters_are_lists_in_json_without_a_warning() -> None:
    read = read_configuration("[task]\nname = 'digits'\nparameters = { hidden = [20, 10] }\n[data]\nname = 'digits'\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert json.loads(read.configuration.model_dump_json())["task"]["parameters"] == {"hidden": [20, 10]}
        assert read.configuration.model_dump(mode="json")["task"]["parameters"]["hidden"] in ([20, 10], (20, 10))


@pytest.mark.parametrize(("value", "sentence"), PARAMETER_ERRORS)
def test_parameters_are_plain_values(value: str, sentence: str) -> None:
    (problem,) = problems(f'[data]\nname = "d"\n[task]\nname = "digits"\nparameters = {value}')
    assert problem.startswith(sentence), problem


def test_what_is_missing_is_said_with_its_meaning() -> None:
    first, second = problems("")[0], problems("[data]\nname = 'd'")[0]
    assert first.startswith("data.name is missing: the name under which every node added its own data")
    assert second.startswith("task.name or task.path is missing")


def test_all_errors_come_at_once() -> None:
    found = problems("xyzzy = 1\n[training]\nrounds = 0\nepochs = 'a'\nlearn_rate = 3\n[round]\nfraction = 2.0")
    assert len(found) == 6, found  # and the data's name is missing


def test_what_is_no_toml_is_said_with_the_line() -> None:
    (problem,) = problems("a = \n")
    assert "line 1" in problem


def test_too_long_a_text_is_not_even_parsed() -> None:
    assert "characters" in problems("#" * (CONFIGURATION_CHARACTERS_MAX + 1))[0]


def test_a_long_value_is_cut_in_the_error() -> None:
    assert len(problems(f'name = "{"a" * 5000}"\n{TAIL}')[0]) < 200


def test_the_error_is_a_refusal_with_a_remedy() -> None:
    with pytest.raises(ManifestError) as caught:
        read_configuration("")
    assert caught.value.code == "bad-manifest"
    assert "fednode run template" in caught.value.remedy


@pytest.mark.parametrize(
    ("source", "name"),
    [("study.toml", "study"), ("/a/b/my study.v2.toml", "my study.v2"), ("", "run"), ("..toml", "run"), ("<x>", "x")],
)
def test_the_file_names_the_run(source: str, name: str) -> None:
    assert read_configuration(TAIL, source=source).configuration.name == name


@given(st.text(max_size=200))
def test_any_file_name_gives_a_valid_name(source: str) -> None:
    assert read_configuration(TAIL, source=source).configuration.name


FEDML = """
[common_args]
training_type = "cross_silo"
random_seed = 7
[environment_args]
bootstrap = "config/bootstrap.sh"
[data_args]
dataset = "digits"
partition_method = "hetero"
[train_args]
federated_optimizer = "FedProx"
fedprox_mu = 0.1
client_id_list = [1, 2]
client_num_in_total = 10
client_num_per_round = 3
comm_round = 20
epochs = 2
batch_size = 16
client_optimizer = "SGD"
learning_rate = 0.03
weight_decay = 0.001
[validation_args]
frequency_of_the_test = 5
[device_args]
using_gpu = false
[comm_args]
backend = "MQTT_S3"
[tracking_args]
run_name = "from fedml"
enable_wandb = false
[dp_args]
enable_dp = false
[task]
name = "digits"
"""


def test_a_configuration_of_fedmls_is_taken() -> None:
    reading = read_configuration(FEDML)
    taken = reading.configuration
    assert (taken.name, taken.seed, taken.data.name, taken.evaluation.every) == ("from fedml", 7, "digits", 5)
    training = taken.training
    assert (training.rounds, training.epochs, training.batch_size, training.optimizer) == (20, 2, 16, "sgd")
    assert (training.learning_rate, training.weight_decay, training.proximal_mu) == (0.03, 0.001, 0.1)
    assert (taken.roster.nodes_min, taken.round.fraction) == (10, 0.3)
    assert "train_args.comm_round taken as training.rounds" in reading.taken_as
    assert any(note.startswith("comm_args.backend left out") for note in reading.taken_as)
    assert any(note.startswith("dp_args left out") for note in reading.taken_as)


def test_flat_keys_of_synergos_are_taken() -> None:
    text = (
        'algorithm = "FedProx"\nrounds = 3\nepochs = 2\nlr = 0.5\nmu = 0.1\nl2_lambda = 0\noptimizer = "SGD"\n' + TAIL
    )
    training = read_configuration(text).configuration.training
    assert (training.rounds, training.epochs, training.learning_rate, training.proximal_mu) == (3, 2, 0.5, 0.1)
    assert training.optimizer == "sgd"


@pytest.mark.parametrize(
    ("asked", "rule"), [("krum", "krum"), ("RFA", "geometric_median"), ("cclip", "centred_clipping")]
)
def test_defences_of_fedmls_are_rules(asked: str, rule: str) -> None:
    text = f'[defense_args]\nenable_defense = true\ndefense_type = "{asked}"\n'
    assert read_configuration(text + TAIL).configuration.aggregation.rule == rule
    assert read_configuration(f'{TAIL}[aggregation]\nrule = "{asked}"').configuration.aggregation.rule == rule
    off = text.replace("true", "false")
    assert read_configuration(off + TAIL).configuration.aggregation.rule == "mean"


def test_norm_clipping_of_fedmls_is_clipping() -> None:
    text = '[defense_args]\nenable_defense = true\ndefense_type = "norm_diff_clipping"\nnorm_bound = 5\n'
    aggregation = read_configuration(text + TAIL).configuration.aggregation
    assert (aggregation.rule, aggregation.clip, aggregation.clip_norm) == ("mean", "norm", 5.0)


ALIAS_ERRORS = [
    ("comm_round = 3\n[training]\nrounds = 4\n", "comm_round and training.rounds mean the same; keep one"),
    ("lr = 1.0\nlearning_rate = 1.0\n", "lr and learning_rate mean the same; keep one"),
    ("comm_round = 0\n", "comm_round is 0; allowed is a whole number from 1 to 1,000,000"),
    ('federated_optimizer = "FedProx"\n', 'federated_optimizer is "FedProx", which needs training.proximal_mu'),
    ('federated_optimizer = "FedDyn"\n', "federated_optimizer is 'FedDyn'; allowed is \"FedAvg\""),
    ('algorithm = "SCAFFOLD"\n[training]\nmomentum = 0.5\n', "training.momentum is 0.5: aggregation.method"),
    ('server_optimizer = "adagrad"\n[aggregation]\nserver_beta2 = 0.5\n', "aggregation.server_beta2 is 0.5: it bel"),
    ("client_num_per_round = 0\n", "client_num_per_round is 0; allowed is a whole number from 1"),
    ("client_num_in_total = 2\nclient_num_per_round = 3\n", "client_num_per_round is 3: more than"),
    ("[dp_args]\nenable_dp = true\n", "dp_args asks for what fednode does not have"),
    ("[defense_args]\nenable_defense = true\ndefense_type = 'foolsgold'\n", "defense_type is 'foolsgold'; allowed is"),
    (
        "[defense_args]\nenable_defense = true\ndefense_type = 'krum'\nbyzantine_client_num = 1\n",
        "byzantine_client_num counts nodes; give",
    ),
    (
        "[defense_args]\nenable_defense = true\ndefense_type = 'krum'\nkrum_param_m = 1\n",
        "krum_param_m of defense_args",
    ),
    ("[defense_args]\nenable_defense = true\ndefense_type = 'norm_diff_clipping'\n", "defense_type is 'norm_diff_cl"),
    ("defense_args = 3\n", "defense_args asks for what fednode does not have"),
    ("[aggregation]\noptimizer = 'adam'\n", "aggregation.optimizer is not a known key; did you mean training.optim"),
]


@pytest.mark.parametrize(("text", "sentence"), ALIAS_ERRORS)
def test_aliases_are_checked_like_our_own_keys(text: str, sentence: str) -> None:
    (problem,) = problems(text + TAIL)
    assert problem.startswith(sentence), problem


def test_the_algorithm_may_be_named_twice_neither() -> None:
    assert "mean the same" in problems('algorithm = "FedAvg"\nfederated_optimizer = "FedAvg"\n' + TAIL)[0]


def test_fedopts_server_optimizer() -> None:
    text = 'federated_optimizer = "FedOpt"\nserver_optimizer = "sgd"\nserver_lr = 0.5\nserver_momentum = 0.8\n' + TAIL
    aggregation = read_configuration(text).configuration.aggregation
    assert (aggregation.server_optimizer, aggregation.server_learning_rate) == ("momentum", 0.5)


SERVER_SGD = [  # what is said beside it, the optimizer, its rate, its momentum, what the note says
    ("", "none", 1.0, 0.9, '"none", plain averaging, for no momentum is given'),
    ("server_lr = 1\n", "none", 1.0, 0.9, '"none", plain averaging, for no momentum is given'),
    ("server_lr = 0.5\n", "momentum", 0.5, 0.0, '"momentum" with server_momentum = 0, for none is given'),
    ("server_momentum = 0.9\n", "momentum", 1.0, 0.9, '"momentum"'),
    ("server_momentum = 0.0\n", "momentum", 1.0, 0.0, '"momentum"'),
]


@pytest.mark.parametrize(("beside", "optimizer", "rate", "momentum", "said"), SERVER_SGD)
@pytest.mark.parametrize("written", ["sgd", "SGD"])
def test_a_server_sgd_has_a_momentum_only_where_one_is_given(
    written: str, beside: str, optimizer: str, rate: float, momentum: float, said: str
) -> None:
    reading = read_configuration(f'server_optimizer = "{written}"\n{beside}{TAIL}')
    aggregation = reading.configuration.aggregation
    assert (aggregation.server_optimizer, aggregation.server_rate, aggregation.server_momentum) == (
        optimizer,
        rate,
        momentum,
    )
    assert f'server_optimizer = "{written}" taken as {said}' in reading.taken_as


def test_a_server_sgd_may_be_an_override_and_our_own_key() -> None:
    text = TAIL + '[aggregation]\nserver_optimizer = "adam"\n'
    reading = read_configuration(text, overrides={"server_optimizer": "sgd", "aggregation.server_momentum": 0.5})
    aggregation = reading.configuration.aggregation
    assert (aggregation.server_optimizer, aggregation.server_momentum) == ("momentum", 0.5)
    plain = read_configuration(TAIL + '[aggregation]\nserver_optimizer = "sgd"\n').configuration.aggregation
    assert plain.server_optimizer == "none"
    (problem,) = problems(TAIL + '[aggregation]\nserver_optimizer = "sgd"\nserver_beta1 = 0.5\n')
    assert problem.startswith("aggregation.server_beta1 is 0.5: it belongs to")


@pytest.mark.parametrize(
    ("text", "begins"),
    [("a = \n", "  it is not TOML: Invalid value (at line 1"), ("rouns = 3\n" + TAIL, "  rouns is not a known key")],
)
def test_errors_name_the_file(text: str, begins: str) -> None:
    with pytest.raises(ManifestError) as error:
        read_configuration(text, source="studies/bad.toml")
    first, second, *_ = error.value.what.splitlines()
    assert first.startswith("studies/bad.toml has ")
    assert second.startswith(begins)
    with pytest.raises(ManifestError, match="The configuration has "):
        read_configuration(text)


@pytest.mark.parametrize("name", ["FedNova", "SCAFFOLD"])
def test_algorithms_that_are_methods_here(name: str) -> None:
    assert read_configuration(f'algorithm = "{name}"\n{TAIL}').configuration.aggregation.method == name.lower()


def test_overrides_count_instead_of_the_text() -> None:
    text = "[training]\nrounds = 4\n" + TAIL.replace(
        '"digits"\n[data]', '"digits"\nparameters = {a = 1, b = 2}\n[data]'
    )
    overrides = {"training.rounds": 9, "lr": 0.5, "task.parameters.b": 3, "train_args.epochs": 2, "tags": ["x"]}
    taken = read_configuration(text, overrides=overrides).configuration
    assert (taken.training.rounds, taken.training.learning_rate, taken.training.epochs) == (9, 0.5, 2)
    assert taken.task.parameters == {"a": 1, "b": 3}
    assert taken.tags == ("x",)


@pytest.mark.parametrize("key", ["training.rouns", "training", "a.b.c", "", ".", "training.rounds.x", "name.x"])
def test_wrong_overrides_are_refused(key: str) -> None:
    assert problems(TAIL, overrides={key: 1})
