"""Config of a run: one flat frozen dataclass per experiment."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from zoo import flag_values, piecewise
from zoo.errors import BadInput
from zoo.flag_values import as_text

SCHEDULES = (
    "constant",
    "linear",
    "cosine",
    "cosine_restarts",
    "one_cycle",
    "warmup_stable_decay",
    "step",
    "exponential",
    "polynomial",
    "inverse_sqrt",
    "slanted_triangular",
)
SECOND_ORDER = ("newton_cg", "lbfgs")
_SMALLER_IS_BETTER = ("loss", "log_loss", "brier", "ece", "perplexity", "bits_per_byte")


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    less_than: float | None = None,
    choices: Sequence[str] = (),
    may_change: bool = False,
    alias: str = "",
    before: Any = None,
    unset: Any = None,
) -> Any:
    """A field of a config.

    Args:
        default: default value; the help gives its reason. None: unset, so `build` chooses (see `Config.filled`), but
            for `unset`.
        help: text for `--help`.
        minimum: smallest value allowed.
        maximum: largest value allowed.
        less_than: bound that the value must stay below.
        choices: the values allowed.
        may_change: whether a resumed run may have another value than the saved one.
        alias: second name of the flag, for a thing that other experiments call differently.
        before: value of the runs that were recorded before the field existed; None: they are refused.
        unset: the learning rate where it is unset, but with optimizers of second order.
    """
    limits = {"minimum": minimum, "maximum": maximum, "less_than": less_than, "choices": tuple(choices)}
    metadata = {"help": help, **limits, "may_change": may_change, "alias": alias, "before": before, "unset": unset}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """Config of every training run; an experiment adds its own fields in one subclass.

    Steps count updates of the weights; `batch_size` is the global one, whatever the number of devices.
    """

    # Length and batches
    seed: int = setting(
        0, "Seed of the examples' order, the initial weights and all noise.", minimum=0, maximum=2**32 - 1
    )
    seeds: int = setting(
        1,
        "Runs with so many seeds from --seed on, one after the other, and the mean of their test metrics with its 95 % "
        "interval (docs/training.md); 3 to 5 are common. 1: one run.",
        minimum=1,
        maximum=1000,
        may_change=True,
        before=1,
    )
    steps: int = setting(0, "Training steps. 0: from --epochs.", minimum=0, may_change=True)
    epochs: float = setting(0.0, "Passes over the training data. 0: from --steps.", minimum=0, may_change=True)
    batch_size: int = setting(128, "Examples per step, over all devices; 128 is common for small models.", minimum=1)
    accumulate: int = setting(
        1, "Micro-batches per step (gradient accumulation): the same run in less memory.", minimum=1, may_change=True
    )

    # Optimizer and learning rate
    optimizer: str = setting("adam", "Adam needs the least tuning; a wrong name lists the others.")
    learning_rate: float | None = setting(
        None,
        "Peak rate. Unset: 0.001, Adam's own default; newton_cg and lbfgs: 1, as their steps have a length.",
        minimum=0,
        unset=1e-3,
    )
    find_lr: bool = setting(
        False,
        "Look for a learning rate instead of training: a range test (Smith, 2017) of 161 steps, whose curve is written "
        "to the workdir.",
        may_change=True,
        before=False,
    )
    schedule: str = setting("constant", "Learning-rate schedule after the warm-up.", choices=SCHEDULES)
    warmup_steps: int = setting(0, "Steps of linear warm-up; small models need none.", minimum=0)
    warmup_fraction: float = setting(
        0.0, "Fraction of the schedule's steps that warm up, unless --warmup_steps is set.", minimum=0, less_than=1
    )
    decay_steps: int = setting(0, "Step at which the schedule ends. 0: the last step of the run.", minimum=0)
    final_fraction: float = setting(
        0.0, "Final / peak rate of the schedules that end at one, such as linear and cosine.", minimum=0, maximum=1
    )
    decay_rate: float = setting(
        0.1, "Factor of the step and exponential schedules, once per --decay_every.", minimum=0, maximum=1
    )
    decay_every: int = setting(0, "Steps per --decay_rate. 0: a third of the schedule after the warm-up.", minimum=0)
    power: float = setting(2.0, "Exponent of the polynomial schedule.", minimum=0)
    cooldown_fraction: float = setting(
        0.2,
        "Share of the steps after the warm-up in which warmup_stable_decay falls; with 0.2 it is as good as a cosine "
        "(Haegele et al., 2024).",
        minimum=0,
        maximum=1,
        before=0.2,
    )
    cycles: int = setting(
        4, "Falls of cosine_restarts: with --cycle_factor=2 the last one has half of the steps.", minimum=1, before=4
    )
    cycle_factor: float = setting(
        2.0, "Length of a fall of cosine_restarts / that of the one before; 2 is the paper's.", minimum=1, before=2.0
    )

    # Second order
    newton_damping: float = setting(
        0.03,
        "Damping of the first step of newton_cg, which adapts it; with 0.03 few first steps of small networks failed.",
        minimum=0,
        before=0.03,
    )
    cg_iterations: int = setting(
        100, "Most products with the Gauss-Newton matrix in a step, each 2 gradients' time.", minimum=1, before=100
    )
    cg_tolerance: float = setting(
        0.3,
        "Residual / gradient at which conjugate gradients end; smaller where the gradient is small. With 0.3 small "
        "networks needed fewer products than with 0.1, and fewer rejected steps than with 0.5.",
        minimum=0,
        before=0.3,
    )
    lbfgs_pairs: int = setting(
        10,
        "Steps that lbfgs remembers, each as 2 vectors like the weights; 10 is SciPy's, and 3 to 20 are common.",
        minimum=1,
        maximum=1000,
        before=10,
    )

    # The rate falls where the validation says so
    plateau_patience: int = setting(
        0,
        "Evaluations without a better --metric after which the learning rate is lowered, by whatever --schedule it is "
        "set. 0: never.",
        minimum=0,
        before=0,
    )
    plateau_factor: float = setting(
        0.1, "Factor of the rate on a plateau; 0.1 is that of Keras and PyTorch.", minimum=0, less_than=1, before=0.1
    )
    plateau_min_delta: float = setting(
        0.0, "Change of --metric that counts as better; 0: any, as for --patience.", minimum=0, before=0.0
    )
    plateau_cooldown: int = setting(
        0, "Evaluations after each change of the rate that do not count.", minimum=0, before=0
    )
    plateau_floor: float = setting(
        0.0, "Factor below which the rate is not lowered. 0: none.", minimum=0, maximum=1, before=0.0
    )

    # Rate and decay change at given steps, or where the controller finds that better
    controller: bool = setting(
        False,
        "Try other learning rates in forks of the run, and go on with what the validation split finds clearly "
        "better (docs/controller.md); the run takes up to 4 times as long.",
        before=False,
    )
    rate_factors: str = setting(
        "",
        "STEP:FACTOR with commas: from each step on so many times the learning rate of the schedule, as in "
        "0:3,600:0.3. Empty: 1.",
        before="",
    )
    weight_decays: str = setting(
        "",
        "STEP:DECAY with commas: from each step on this --weight_decay, as in 600:0.1. Empty: always the same.",
        before="",
    )

    # Fine-tuning, layer by layer
    layer_decay: float = setting(
        1.0,
        "Factor of the rate from each layer to the next lower one; ULMFiT uses 0.38. 1: one rate for all.",
        minimum=0,
    )
    unfreeze_every: int = setting(
        0, "Steps after which one more layer starts to learn, from the output down. 0: all from the start.", minimum=0
    )

    # Regularization
    weight_decay: float | None = setting(
        None,
        "Decoupled decay of matrices, times the rate. Unset: 0.01 for adamw, lamb, lion and muon, 0 for the others.",
        minimum=0,
    )
    l2: float = setting(0.0, "Penalty l2 * sum(w^2) on matrices, added to the loss once per step.", minimum=0)
    l1: float = setting(0.0, "Penalty l1 * sum(|w|) on matrices, likewise.", minimum=0, before=0.0)
    l2_sp: float = setting(
        0.0,
        "Penalty l2_sp * sum((w - first w)^2) on matrices but for the head: fine-tuning stays near the first weights, "
        "such as those of --init_from (Li et al., 2018), often with 0.01. 0: none, as random first weights are no aim.",
        minimum=0,
        before=0.0,
    )
    gradient_noise: float = setting(
        0.0,
        "Variance of normal noise on the gradient at the first step; it falls with step^-0.55 (Neelakantan et al., "
        "2015), which suggest 0.01, 0.3 or 1. 0: none, as most networks train well without it.",
        minimum=0,
        before=0.0,
    )
    sam: str = setting(
        "none",
        "Sharpness-aware minimization around the optimizer: the gradient at the worst weights nearby (Foret et al., "
        "2021); asam: within a distance relative to each weight (Kwon et al., 2021). none, as they double a step's "
        "time.",
        choices=("none", "sam", "asam"),
        before="none",
    )
    sam_radius: float | None = setting(None, "How far away; unset: the papers' 0.05 of sam and 0.5 of asam.", minimum=0)
    clip_norm: float = setting(0.0, "Largest global norm of the gradient. 0: no clipping.", minimum=0)
    ema: float = setting(
        0.0,
        "Decay of a moving average of the weights, used for evaluation and export. 0: no average.",
        minimum=0,
        less_than=1,
    )

    swa: float = setting(
        0.0,
        "Share of the steps after which the mean of all weights begins that is evaluated and exported, often 0.75 "
        "(stochastic weight averaging, Izmailov et al., 2018); best with a rate that stays high. 0: none.",
        minimum=0,
        less_than=1,
        before=0.0,
    )

    # Health
    on_nonfinite: str = setting(
        "halt",
        "Where a loss or gradient is not finite: halt ends the run, whose last checkpoint is good; skip leaves the "
        "weights as they are and goes on, up to 50 times in a row; rollback goes back to the last checkpoint of every "
        "--checkpoint_every steps, leaves the batch out and lowers the rate. halt, as most such numbers are mistakes.",
        choices=("halt", "skip", "rollback"),
        before="halt",
        may_change=True,
    )
    rollbacks: int = setting(
        5,
        "Most rollbacks of a run, before it halts; 5 halvings take a rate that is 30 times too high.",
        minimum=1,
        maximum=1000,
        may_change=True,
        before=5,
    )
    rollback_factor: float = setting(
        0.5,
        "Factor of the learning rate from each rollback on; half is enough where a rate is just too high.",
        minimum=0,
        maximum=1,
        before=0.5,
    )
    skip_spikes: float = setting(
        0.0,
        "Skip steps whose loss is so many standard deviations above its running mean over 100 steps, often 6. 0: none.",
        minimum=0,
        before=0.0,
    )

    batch_norm_group: int = setting(
        0,
        "Rows per group of keras.layers.BatchNormalization; as many as --batch_size for whole batches, which cannot be "
        "split. 0: the largest divisor of --batch_size from 16 to 32, else whole batches.",
        minimum=0,
        before=0,
    )

    # Devices and compilation
    strategy: str = setting(
        "auto",
        "Devices to train on. auto: the workers in TF_CONFIG, else all GPUs, else the CPU.",
        choices=("auto", "cpu", "gpu", "mirrored", "multiworker", "tpu"),
        may_change=True,
    )
    cpu_devices: int = setting(
        1, "Logical CPU devices: replicas without a GPU.", minimum=1, maximum=64, may_change=True
    )
    worker_timeout: int = setting(
        60,
        "Seconds after which a worker (of several, see TF_CONFIG) that does not answer or start is lost: longer than a "
        "network disk's or a virtual machine's pauses, and short beside a restart.",
        minimum=1,
        maximum=86400,
        may_change=True,
    )
    compile: str = setting(
        "auto",
        "What XLA compiles as one program. loop: many steps; step: forward and backward pass of one step; cores: the "
        "same for each core's slice; islands: parts of the model; none: nothing; auto: the fastest for the model.",
        choices=("auto", "loop", "cores", "step", "islands", "none"),
        may_change=True,
    )
    exact: bool | None = setting(
        None,
        "The same run bit for bit on 1, 2 and 4 devices: each of the --slices of a batch is one program, and their "
        "sums are added in a fixed order. Unset: with several devices, where it costs little.",
        may_change=True,
    )
    slices: int = setting(
        0,
        "Slices of a batch with --exact, a power of two: as many as the most devices that shall repeat the run. 0: 4, "
        "or more where devices times --accumulate are more.",
        minimum=0,
        maximum=4096,
        may_change=True,
        before=0,
    )
    steps_per_loop: int = setting(
        1000, "Most steps per compiled call; a call that would last long has fewer.", minimum=1, may_change=True
    )
    precision: str = setting(
        "float32",
        "bfloat16 computes in bfloat16 and keeps float32 weights; float16, for GPUs without bfloat16 such as the T4, "
        "also scales the loss.",
        choices=("float32", "bfloat16", "float16"),
    )

    # Logging, evaluation and checkpoints
    log_every: int = setting(100, "Steps between two points of the training curves.", minimum=1, may_change=True)
    eval_every: int = setting(0, "Steps between two evaluations. 0: every epoch.", minimum=0, may_change=True)
    checkpoint_every: int = setting(0, "Steps between two checkpoints. 0: at the end only.", minimum=0, may_change=True)
    keep: int = setting(3, "Recent checkpoints to keep, in addition to the best one.", minimum=1, may_change=True)
    metric: str = setting("loss", "Evaluation metric that decides which weights are best.")
    metric_mode: str = setting(
        "auto", "Whether the best --metric is the smallest or the largest.", choices=("auto", "min", "max")
    )
    patience: int = setting(
        0, "Evaluations without a better --metric before the run stops early. 0: never.", minimum=0, may_change=True
    )
    export: str = setting(
        "auto",
        "Weights in model.keras: those of the last step, or the best by --metric; auto: the best if --patience is set.",
        choices=("auto", "last", "best"),
        may_change=True,
    )

    # Initial weights
    init_from: str = setting("", "Workdir or .keras file whose weights to start from. Empty: random weights.")

    # TensorBoard
    show: str = setting(
        "auto",
        "Evaluations for which TensorBoard also gets images, texts and precision-recall curves; auto: the first, "
        "4th, 16th, 64th, ... and the last, so that no run is held up; end: the last and the test.",
        choices=("auto", "evaluations", "end", "none"),
        may_change=True,
    )
    graph: bool = setting(
        True, "Write the graph of a step's forward and backward pass, once at the start.", may_change=True
    )
    histograms: int = setting(
        0,
        "Steps between two histograms of weights and gradients, with each layer's gradient norm. 0: no histograms, as "
        "each takes a step's time and 0.02 s for a million weights, and the first one a compilation.",
        minimum=0,
        may_change=True,
    )
    projector: int = setting(
        0,
        "Examples to show in the embedding projector at the end, by their last features. 0: none, as it takes a "
        "compilation and files of about 10 bytes a number.",
        minimum=0,
        may_change=True,
    )
    profile: str = setting(
        "",
        "FIRST:LAST, steps to trace for the Profile tab (100:110); they run slower. Empty: no trace.",
        may_change=True,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                flag_values.check(field.name, value, field.metadata)
        self._fill_learning_rate()
        if self.steps and self.epochs:
            raise BadInput(f"--steps is {self.steps} and --epochs is {self.epochs:g}: expected one of the two")
        if not self.steps and self.epochs == 0:
            raise BadInput("neither --steps nor --epochs is set: expected one of the two")
        if self.ema and self.swa:
            raise BadInput(f"--ema is {self.ema:g} and --swa is {self.swa:g}: expected one average of the weights")
        steps_range(self.profile)
        piecewise.parse("weight_decays", self.weight_decays)
        if piecewise.parse("rate_factors", self.rate_factors) and self.controller:
            raise BadInput("--controller and --rate_factors: the first chooses the second; expected one of the two")

    def replace(self, **changes) -> "Config":
        """A copy with other values, checked; a learning rate that is the optimizer's default is that of the new one."""
        if self.learning_rate == self._default_rate:
            changes = {"learning_rate": _field(self, "learning_rate").default} | changes
        return dataclasses.replace(self, **changes)

    def filled(self, **values) -> "Config":
        """A copy with these values for the fields that are unset; what the user has set stays.

        A recipe's `epochs` count only where `steps` are not set either.
        """
        unset = {name: value for name, value in values.items() if getattr(self, name) is None}
        if self.steps and "epochs" in unset:
            unset["epochs"] = 0.0
        return self.replace(**unset)

    def _fill_learning_rate(self) -> None:
        # A number that a subclass has as its default counts as unset, too.
        if self.learning_rate == _field(self, "learning_rate").default:
            object.__setattr__(self, "learning_rate", self._default_rate)

    @property
    def _default_rate(self) -> float | None:
        """What an unset learning rate means; None where `build` chooses."""
        field = _field(self, "learning_rate")
        if self.optimizer in SECOND_ORDER:
            return 1.0
        return field.metadata.get("unset") if field.default is None else field.default

    @property
    def exports_best(self) -> bool:
        """Whether to export the best weights instead of the last."""
        return self.export == "best" or (self.export == "auto" and self.patience > 0)

    @property
    def larger_is_better(self) -> bool:
        """Whether the best `metric` is the largest."""
        if self.metric_mode == "auto":
            return self.metric not in _SMALLER_IS_BETTER
        return self.metric_mode == "max"

    def flags(self) -> str:
        """Text of a flag file that repeats this config."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                lines.append(f"--{field.name}={as_text(value)}")
        return "\n".join(lines) + "\n"


def differences(saved: dict[str, Any], config: Config) -> list[str]:
    """Differences from a saved config (its `dataclasses.asdict`) in the fields that a resumed run must keep."""
    fixed = [field for field in dataclasses.fields(config) if not field.metadata.get("may_change")]
    was = {field.name: saved.get(field.name, _plain(field.metadata.get("before"))) for field in fixed}
    now = {field.name: _plain(getattr(config, field.name)) for field in fixed}
    return [f"--{name} was {as_text(was[name])}, is {as_text(now[name])}" for name in now if was[name] != now[name]]


def as_recorded(saved: Mapping[str, Any], config: Config) -> Config:
    """The config of a run that was recorded before some fields existed: where unchanged, they are as they were then."""
    older = {
        field.name: field.metadata["before"]
        for field in dataclasses.fields(config)
        if field.name not in saved
        and field.metadata.get("before") is not None
        and getattr(config, field.name) == field.default
    }
    return config.replace(**older)


def as_dict(config: Config) -> dict[str, Any]:
    """The config as JSON-compatible values."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def steps_range(text: str) -> tuple[int, int] | None:
    """Parses `--profile`, FIRST:LAST, the last step excluded; None for an empty text.

    Raises:
        BadInput: the text has another form.
    """
    first, colon, last = text.partition(":")
    if not text:
        return None
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last) < 2**63):
        raise BadInput(f"--profile is {text!r}: expected FIRST:LAST, two steps like 100:110")
    return int(first), int(last)


def _field(config: Config, name: str) -> dataclasses.Field:
    return next(field for field in dataclasses.fields(config) if field.name == name)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
