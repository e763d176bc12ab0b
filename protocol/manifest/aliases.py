"""Keys that users of FedML and Synergos know, taken as ours, and every one of them reported.

What has no counterpart here is left out and said so, where leaving it out changes nothing that a run promises; what
would change that (privacy, defence against attackers) is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# FedML's configuration has these sections; a key counts the same in any of them.
FEDML_SECTIONS = frozenset(
    {"common_args", "environment_args", "data_args", "model_args", "train_args", "validation_args", "device_args"}
    | {"comm_args", "tracking_args"}
)
# Sections that promise something to the participants which fednode does not have.
PROMISES = frozenset(
    {"dp_args", "secure_aggregation_args", "fhe_args", "defense_args", "attack_args", "fednova_args", "task_args"}
)

ALIASES: Mapping[str, str] = {
    "run_name": "name",
    "dataset": "data.name",
    "rounds": "training.rounds",
    "comm_round": "training.rounds",
    "epochs": "training.epochs",
    "local_epoch": "training.epochs",
    "batch_size": "training.batch_size",
    "train_batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "lr": "training.learning_rate",
    "client_learning_rate": "training.learning_rate",
    "momentum": "training.momentum",
    "weight_decay": "training.weight_decay",
    "l2_lambda": "training.weight_decay",
    "optimizer": "training.optimizer",
    "client_optimizer": "training.optimizer",
    "mu": "training.proximal_mu",
    "fedprox_mu": "training.proximal_mu",
    "server_optimizer": "aggregation.server_optimizer",
    "server_lr": "aggregation.server_learning_rate",
    "server_momentum": "aggregation.server_momentum",
    "frequency_of_the_test": "evaluation.every",
    "random_seed": "seed",
}

# Keys that mean something near to one of ours, but not the same, by their last part: suggested, never taken.
NEAR: Mapping[str, str] = {
    **dict.fromkeys(("f", "trim", "trim_ratio", "trim_share", "trim_fraction", "beta"), "aggregation.byzantine_share"),
    **dict.fromkeys(("liars", "byzantine", "byzantine_count", "byzantine_client_num"), "aggregation.byzantine_share"),
    **dict.fromkeys(("num_byzantine", "byzantine_fraction", "malicious"), "aggregation.byzantine_share"),
}

# What people call methods, where another key of ours says it: the value as it is told to them.
_PROXIMAL = "FedProx is training.proximal_mu, such as 0.1"
ELSEWHERE: Mapping[str, str] = {
    "fedprox": _PROXIMAL,
    **{f"fed{name}": f'this is aggregation.server_optimizer = "{name}"' for name in ("adam", "adagrad", "yogi")},
    **{name: f'this is aggregation.server_optimizer = "{name}"' for name in ("adam", "adagrad", "yogi", "momentum")},
    "fedavgm": 'this is aggregation.server_optimizer = "momentum"',
    **{name: f'this is aggregation.method = "{name}"' for name in ("fednova", "scaffold")},
    "fedbn": "FedBN is the task's local, the names of tensors that stay",
    **{name: f'this is aggregation.rule = "{name}"' for name in ("mean", "median", "krum", "geometric_median")},
    "nnm": 'this is aggregation.pre_aggregation = "nnm"',
}

_OWN_DATA = "every node has its own data; nothing is partitioned or downloaded"
_OWN_MODEL = "the task brings the model"
_OWN_DEVICE = "every node's owner decides about its devices"
_NO_BROKER = "there is no server or broker between the nodes"
_OWN_RECORD = "every node keeps its own record"
LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys(("training_type", "scenario", "config_version", "backend"), _NO_BROKER),
    **dict.fromkeys(("mqtt_config_path", "s3_config_path", "grpc_ipconfig_path", "client_id_list"), _NO_BROKER),
    **dict.fromkeys(("using_mlops", "enable_tracking", "log_file_dir"), _OWN_RECORD),
    **dict.fromkeys(("enable_wandb", "wandb_only_server", "wandb_key", "wandb_project", "wandb_name"), _OWN_RECORD),
    **dict.fromkeys(("wandb_entity", "bootstrap"), _OWN_RECORD),
    **dict.fromkeys(("data_cache_dir", "partition_method", "partition_alpha"), _OWN_DATA),
    **dict.fromkeys(("model", "modelName", "model_file_cache_folder", "global_model_file_path"), _OWN_MODEL),
    **dict.fromkeys(("worker_num", "using_gpu", "gpu_id", "gpu_mapping_file", "gpu_mapping_key"), _OWN_DEVICE),
}


@dataclass(slots=True)
class Translation:
    """What a group of foreign keys means in ours. `values` by our dotted names."""

    values: dict[str, object] = field(default_factory=dict)
    problem: str = ""


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _client_counts(given: Mapping[str, object]) -> Translation:
    """FedML counts clients, we give a share: 3 of 10 clients a round is a roster of 10 and a fraction of 0.3."""
    total, per_round = given.get("client_num_in_total"), given.get("client_num_per_round")
    for key, value in given.items():
        if not _count(value):
            return Translation(problem=f"{key} is {value!r}; allowed is a whole number from 1")
    if total is None or per_round is None:
        return Translation({"roster.nodes_min": total or per_round})
    assert isinstance(total, int)
    assert isinstance(per_round, int)
    if per_round > total:
        return Translation(problem=f"client_num_per_round is {per_round}: more than client_num_in_total, {total}")
    values: dict[str, object] = {"roster.nodes_min": total}
    if per_round < total:
        values["round.fraction"] = per_round / total
    return Translation(values)


DEFENCES: Mapping[str, str] = {
    **{name: name for name in ("krum", "geometric_median", "trimmed_mean")},
    **dict.fromkeys(("multikrum", "multi_krum"), "multi_krum"),
    **dict.fromkeys(("coordinate_wise_median", "wise_median"), "median"),
    "coordinate_wise_trimmed_mean": "trimmed_mean",
    "rfa": "geometric_median",
    **dict.fromkeys(("cclip", "centered_clipping"), "centred_clipping"),
}


RULE_NAMES: Mapping[str, str] = {**DEFENCES, **dict.fromkeys(("fedavg", "average"), "mean")}
SERVER_OPTIMIZERS: Mapping[str, str] = {
    "fedavgm": "momentum",
    **{f"fed{name}": name for name in ("adam", "adagrad", "yogi")},
}


def defence(given: Mapping[str, object]) -> Translation:
    """FedML's defences are rules here; its norm_diff_clipping is clipping before a rule."""
    asked = str(given.get("defense_type", "")).lower()
    known = {"enable_defense", "defense_type"}
    if asked == "norm_diff_clipping" and "norm_bound" in given:
        known.add("norm_bound")
        values = {"aggregation.clip": "norm", "aggregation.clip_norm": given["norm_bound"]}
    elif asked in DEFENCES:
        values = {"aggregation.rule": DEFENCES[asked]}
    else:
        return Translation(problem=f"defense_type is {asked!r}; allowed is one of {', '.join(DEFENCES)}")
    if "byzantine_client_num" in given:
        return Translation(problem="byzantine_client_num counts nodes; give their share, aggregation.byzantine_share")
    unknown = sorted(given.keys() - known)
    if unknown:
        return Translation(problem=f"{unknown[0]} of defense_args has no counterpart here; leave it out")
    return Translation(values)


def _algorithm(given: Mapping[str, object]) -> Translation:
    """FedAvg is the mean; FedProx adds a proximal term on the nodes, FedOpt an optimizer on the mean: keys of their
    own here, so the name asks for nothing more. FedNova and SCAFFOLD are methods."""
    if len(given) > 1:
        return Translation(problem=f"{' and '.join(given)} mean the same; keep one")
    ((key, value),) = given.items()
    name = value.lower() if isinstance(value, str) else ""
    if name in ("fedavg", "fedprox", "fedopt"):
        return Translation({"aggregation.rule": "mean"})
    if name in ("fednova", "scaffold"):
        return Translation({"aggregation.method": name})
    if name in SERVER_OPTIMIZERS and name.startswith("fed"):
        return Translation({"aggregation.rule": "mean", "aggregation.server_optimizer": SERVER_OPTIMIZERS[name]})
    allowed = '"FedAvg", "FedProx", "FedOpt", "FedNova" or "SCAFFOLD"'
    return Translation(problem=f"{key} is {value!r}; allowed is {allowed}")


# Foreign keys that mean something only together.
GROUPS: Mapping[str, Callable[[Mapping[str, object]], Translation]] = {
    "client_num_in_total": _client_counts,
    "client_num_per_round": _client_counts,
    "federated_optimizer": _algorithm,
    "algorithm": _algorithm,
}

# What an algorithm's name promises beyond the mean: the key that must be given too.
ALGORITHM_NEEDS: Mapping[str, str] = {
    "fedprox": "training.proximal_mu",
    "fedopt": "aggregation.server_optimizer",
}


SERVER_OPTIMIZER, SERVER_RATE, SERVER_MOMENTUM = (
    f"aggregation.server_{leaf}" for leaf in ("optimizer", "learning_rate", "momentum")
)


def server_sgd(given: Mapping[str, object]) -> dict[str, object]:
    """What FedML's server optimizer "sgd" is, by our dotted names, beside the rate and the momentum that are `given`.

    A step of SGD at rate 1 is plain averaging, for which there is no optimizer here; at another rate it is momentum
    without any.
    """
    if SERVER_MOMENTUM in given:
        return {SERVER_OPTIMIZER: "momentum"}
    if given.get(SERVER_RATE, 1) == 1:
        return {SERVER_OPTIMIZER: "none"}
    return {SERVER_OPTIMIZER: "momentum", SERVER_MOMENTUM: 0.0}


def translate_value(target: str, value: object, choices: tuple[str, ...]) -> object:
    """`value` in our spelling where only the spelling differs: "SGD" is "sgd", "FedAvgM" is "momentum"."""
    if not isinstance(value, str) or not choices or value in choices:
        return value
    lowered = re.sub(r"[\s-]+", "_", value.strip().lower())
    if target == "aggregation.rule" and lowered in RULE_NAMES:
        return RULE_NAMES[lowered]
    if target == "aggregation.server_optimizer" and lowered in SERVER_OPTIMIZERS:
        return SERVER_OPTIMIZERS[lowered]
    return lowered if lowered in choices else value
