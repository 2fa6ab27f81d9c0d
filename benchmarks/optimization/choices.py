"""What is compared: optimizers, schedules and regularizers as changes of flags."""

import dataclasses
from typing import Any, NamedTuple


class Choice(NamedTuple):
    """A row of a table.

    Attributes:
        name: what the row is called.
        flags: the flags that differ from the plain training.
        kind: which learning rates it is tried with: `adaptive`, `plain`, `best` (Adam's best), `wide` (Adam's best and
            three times as much), `own` (1, where the method finds the length of a step itself).
        factor: number that these rates are multiplied by.
    """

    name: str
    flags: dict[str, Any]
    kind: str = "best"
    factor: float = 1.0


def _optimizer(name: str, kind: str, factor: float = 1.0, **flags: Any) -> Choice:
    return Choice(name, {"optimizer": name, **flags}, kind, factor)


# One batch of a quarter of the examples: products with a matrix of few examples lead nowhere.
_LARGE = {"batch_size": 1000, "epochs": 0}
# What all gains are over.
PLAIN = Choice("adam", {}, "adaptive")
OPTIMIZERS = [
    PLAIN,
    _optimizer("sgd", "plain"),
    _optimizer("momentum", "plain", 0.3),
    _optimizer("rmsprop", "adaptive"),
    _optimizer("adamw", "adaptive"),
    _optimizer("lamb", "adaptive", 3.0),
    # A third to a tenth of Adam's rate (Chen et al., 2023, section 5).
    _optimizer("lion", "adaptive", 0.2),
    _optimizer("muon", "adaptive", 3.0),
    Choice("adam, --sam=sam", {"sam": "sam"}),
    Choice("adam, --sam=asam", {"sam": "asam"}),
    _optimizer("newton_cg", "own", **_LARGE),
    _optimizer("lbfgs", "own", **_LARGE),
]
# One of each kind: the others fall much like linear and cosine, or like warmup_stable_decay.
_SCHEDULES = ("linear", "cosine", "one_cycle", "warmup_stable_decay", "cosine_restarts", "inverse_sqrt")
SCHEDULE_CHOICES = [
    Choice("constant", {}, "wide"),
    *(Choice(name, {"schedule": name}, "wide") for name in _SCHEDULES),
]
REGULARIZERS = [
    Choice("none", {}),
    Choice("--optimizer=adamw --weight_decay=0.1", {"optimizer": "adamw", "weight_decay": 0.1}),
    Choice("--l1=1e-5", {"l1": 1e-5}),
    Choice("--dropout=0.5", {"dropout": 0.5}),
    Choice("--label_smoothing=0.1", {"label_smoothing": 0.1}),
    Choice("--gradient_noise=0.01", {"gradient_noise": 0.01}),
    Choice("--stochastic_depth=0.2", {"stochastic_depth": 0.2}),
    # R-Drop needs dropout; EDA's own rate is 0.1, of which swaps move two tokens each.
    Choice("--dropout=0.5 --r_drop=1", {"dropout": 0.5, "r_drop": 1.0}),
    Choice("--token_drop=0.1", {"token_drop": 0.1}),
    Choice("--token_swap=0.2", {"token_swap": 0.2}),
    Choice("--ema=0.99", {"ema": 0.99}),
    Choice("--swa=0.5", {"swa": 0.5}),
    Choice("--sam=sam", {"sam": "sam"}),
    Choice("--patience=3", {"patience": 3}),
]


def of(choices: list[Choice], config_type: type) -> list[Choice]:
    """Those whose flags the experiment has."""
    names = {field.name for field in dataclasses.fields(config_type)}
    return [choice for choice in choices if choice.flags.keys() <= names]
