"""Rules over several keys of a configuration: each a function under one sentence, giving what is wrong or nothing."""

from protocol.manifest.defences import RULES_AGAINST_LIARS
from protocol.manifest.sections import ADAPTIVE_RATES, TOP_CODECS, Keys, TaskKeys
from protocol.run.voters import drawn_of

OUR_MODULES = frozenset({"fednode", "protocol", "aggregation", "tracker", "node", "tui", "simulations"})


def base_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def one_task(task: TaskKeys) -> str:
    """A run has exactly one task."""
    if task.name is None and task.path is None:
        return 'task.name or task.path is missing: name a built-in task, such as name = "digits", or your own file'
    if task.name is not None and task.path is not None:
        return "task.name and task.path are both given: keep one"
    return ""


def task_file_has_a_name_of_its_own(task: TaskKeys) -> str:
    """A task's file is a Python module that hides none of fednode's own."""
    stem, dot, ending = base_name(task.path or "task.py").rpartition(".")
    if not dot or ending != "py" or not stem.isidentifier() or not stem.isascii() or len(stem) > 80:
        return f"task.path is {task.path!r}: the file must be named like a Python module, such as my_task.py"
    if stem in OUR_MODULES:
        return f"task.path is {task.path!r}: {stem} is a module of fednode's own; rename the file"
    return ""


def roster_bounds_are_in_order(keys: Keys) -> str:
    """A roster may hold at least as many nodes as it must."""
    roster = keys.roster
    if roster.nodes_max < roster.nodes_min:
        return f"roster.nodes_max is {roster.nodes_max}: it must be at least roster.nodes_min, {roster.nodes_min}"
    return ""


def smallest_roster_can_close_a_round(keys: Keys) -> str:
    """The nodes drawn from the smallest roster can give as many updates as a round needs."""
    drawn = drawn_of(keys.round.fraction, keys.roster.nodes_min)
    if keys.round.updates_min > drawn:
        return (
            f"round.updates_min is {keys.round.updates_min}: of roster.nodes_min = {keys.roster.nodes_min} nodes "
            f"round.fraction = {keys.round.fraction} draws {drawn}, which could never give so many"
        )
    return ""


def deadline_bounds_are_in_order(keys: Keys) -> str:
    """An adaptive deadline has room between its bounds."""
    least = keys.round.deadline_min_s
    if least is not None and least > keys.round.deadline_s:
        return f"round.deadline_min_s is {least}: it must be at most round.deadline_s, {keys.round.deadline_s}"
    return ""


def heartbeats_fit_into_the_timeout(keys: Keys) -> str:
    """Three heartbeats fit into an election timeout, so that one lost message elects nobody."""
    timing = keys.timing
    if timing.election_timeout_s < 3 * timing.heartbeat_s:
        return (
            f"timing.election_timeout_s is {timing.election_timeout_s}: it must be at least three times "
            f"timing.heartbeat_s, {timing.heartbeat_s}"
        )
    return ""


def loss_is_noticed_after_a_heartbeat(keys: Keys) -> str:
    """A node is lost only after it missed several heartbeats."""
    timing = keys.timing
    if timing.lost_after_s < 3 * timing.heartbeat_s:
        return (
            f"timing.lost_after_s is {timing.lost_after_s}: it must be at least three times timing.heartbeat_s, "
            f"{timing.heartbeat_s}"
        )
    return ""


def loss_comes_before_leaving(keys: Keys) -> str:
    """A node leaves the roster only after it has counted as lost."""
    timing = keys.timing
    if timing.leave_after_s < timing.lost_after_s:
        return (
            f"timing.leave_after_s is {timing.leave_after_s}: it must be at least timing.lost_after_s, "
            f"{timing.lost_after_s}"
        )
    return ""


def momentum_belongs_to_sgd(keys: Keys) -> str:
    """Adam has its own."""
    if keys.training.optimizer != "sgd" and keys.training.momentum != 0:
        return f"training.momentum is {keys.training.momentum}: it belongs to the optimizer sgd; leave it out with adam"
    return ""


def server_keys_have_a_use(keys: Keys) -> str:
    """Nothing that is given about a server optimizer goes unused in silence."""
    aggregation, default = keys.aggregation, type(keys.aggregation)()
    for key, optimizers in _SERVER_KEYS.items():
        given = getattr(aggregation, key)
        if given in (getattr(default, key), _WITHOUT.get(key)):
            continue
        if aggregation.server_optimizer not in optimizers:
            names = " or ".join(f'"{name}"' for name in optimizers)
            return f"aggregation.{key} is {given}: it belongs to aggregation.server_optimizer = {names}"
    return ""


_ADAPTIVE = tuple(ADAPTIVE_RATES)
_WITHOUT = {"server_learning_rate": 1.0}  # what the step is without a server optimizer may be said
_SERVER_KEYS = {
    "server_learning_rate": ("momentum", *_ADAPTIVE),
    "server_momentum": ("momentum",),
    "server_beta1": _ADAPTIVE,
    "server_beta2": ("adam", "yogi"),
    "server_tau": _ADAPTIVE,
}


def methods_count_plain_steps(keys: Keys) -> str:
    """FedNova and SCAFFOLD know what a step of plain SGD is worth, and of no other."""
    training, method = keys.training, keys.aggregation.method
    if method == "fedavg":
        return ""
    for key, plain in (("optimizer", "sgd"), ("momentum", 0), ("proximal_mu", 0)):
        given = getattr(training, key)
        if given != plain:
            return f'training.{key} is {given}: aggregation.method = "{method}" is for plain sgd; leave it out'
    return ""


def methods_take_the_mean(keys: Keys) -> str:
    """FedNova and SCAFFOLD are ways of averaging."""
    rule: str = keys.aggregation.rule
    method = keys.aggregation.method
    if method != "fedavg" and rule != "mean":
        return (
            f'aggregation.rule is {rule}: aggregation.method = "{method}" averages; take the rule "mean", or the '
            'method "fedavg"'
        )
    return ""


def top_codecs_take_the_mean(keys: Keys) -> str:
    """What compares updates, or sorts their coordinates, needs all of each."""
    aggregation = keys.aggregation
    if aggregation.codec not in TOP_CODECS:
        return ""
    for key, plain in (("rule", "mean"), ("pre_aggregation", "none")):
        given = getattr(aggregation, key)
        if given != plain:
            return (
                f"aggregation.codec is {aggregation.codec}: it leaves most of an update out, and "
                f'aggregation.{key} = "{given}" needs all of it; take "{plain}", or the codec "int8"'
            )
    return ""


RULES = (
    *RULES_AGAINST_LIARS,
    roster_bounds_are_in_order,
    smallest_roster_can_close_a_round,
    deadline_bounds_are_in_order,
    heartbeats_fit_into_the_timeout,
    loss_is_noticed_after_a_heartbeat,
    loss_comes_before_leaving,
    momentum_belongs_to_sgd,
    server_keys_have_a_use,
    methods_count_plain_steps,
    methods_take_the_mean,
    top_codecs_take_the_mean,
)
TASK_RULES = (one_task, task_file_has_a_name_of_its_own)
