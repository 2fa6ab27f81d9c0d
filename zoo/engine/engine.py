"""The training engine: compiled inner loops for training and evaluation under any distribution strategy."""

import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from zoo.data.batches import Batches
from zoo.engine import (
    added_losses,
    compile_modes,
    dead_rows,
    devices,
    feed,
    forward_check,
    gauss_newton,
    keras_layers,
    lbfgs,
    loss_scaling,
    model_check,
    newton_cg,
    rate_level,
    skipping,
    slice_pass,
    slicing,
    updates,
    widths,
)
from zoo.engine import second_order as second_order_steps
from zoo.engine import step as step_functions
from zoo.engine.controls import PREFIX as CONTROLS
from zoo.engine.optimizers import Group
from zoo.engine.private_apis import all_layers
from zoo.engine.regularization import Penalty, Start
from zoo.engine.scalars import means
from zoo.engine.state import AVERAGE, START, array, assign, copies, named
from zoo.engine.task import BatchLosses, ForwardFn, MicroBatch, ReplicaBatch, Sharpness, StepFunctions, Task
from zoo.errors import BadInput

_OUTPUT = "output/"


class Engine:
    """Trains and evaluates one model; knows no file, no flag and no data set.

    Args:
        strategy: distribution strategy; create the engine and call its methods in its scope or in none.
        model: a built Keras model, made in the strategy's scope.
        forward: the whole task on one replica's rows: `forward(model, batch, training) -> dict[str, Term]`.
        objective: names of the terms whose means are summed into the loss.
        groups: groups of variables with their optimizers, from `optimizers.groups`.
        batch_losses: losses over all rows of a batch, see `Experiment`.
        several: the updates of a step, where there are several, in turn; the groups are theirs, from `updates.groups`.
        penalty: penalty on the weights from `regularization.penalty`, or None.
        start: the first weights that it pulls towards, which belong to the run's state, or None.
        seed: seed of all noise.
        accumulate: micro-batches per step.
        sharpness: where the gradient is taken, see `zoo.engine.sharpness`; None: at the weights.
        second_order: makes the steps, which the groups' optimizer then follows as it would a gradient, see
            `zoo.engine.second_order`; None: steps are made of the gradient.
        clip_norm: largest global norm of the gradient; 0 does not clip.
        average_decay: decay of the moving average of the weights; 0 keeps none.
        average_start: updates before a plain mean of all weights begins, instead of a moving average; None: none.
        gradient_noise: variance of noise on the gradient at the first step, see `zoo.engine.gradient_noise`.
        level: factor of the groups' learning rates, see `zoo.engine.rate_level`, or None.
        controls: further variables that the run sets between two steps, see `zoo.engine.controls`; None: none.
        skips: which steps leave the weights as they are, see `zoo.engine.skipping`; None: none.
        measures_all: whether the gradient's norm is computed in each step, and so the first that is not finite known.
        batch_norm_group: rows per group of Keras' batch normalisation; 0 for
            `keras_layers.batch_normalization_group`.
        compile: what XLA compiles as one program. `loop`: a whole call (one replica only); `step`: the forward and
            backward pass of a micro-batch, and the update (on one replica); `cores`: the same for each core's slice,
            side by side; `islands`: the update only, as the model compiles its own parts (`zoo.models.xla_islands`);
            `none`: nothing. `auto` is `loop` on one replica, else `step`.
        is_default: whether nobody asked for that mode, so that the engine may take a slower one where XLA lacks an
            operation.
        cores: slices of a micro-batch for `cores`; 0 for all cores that this process may use.
        exact: whether the run is the same bit for bit on any number of replicas, see `slicing`; None: where that costs
            little.
        slices: slices of the global batch of an exact run; 0: see `slicing.cut`.
        steps_per_loop: most steps of one call; any value gives the same run.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        forward: ForwardFn,
        objective: Sequence[str],
        groups: Sequence[Group],
        *,
        batch_losses: BatchLosses | None = None,
        several: Sequence[updates.Update] = (),
        penalty: Penalty | None = None,
        start: Start | None = None,
        seed: int = 0,
        accumulate: int = 1,
        sharpness: Sharpness | None = None,
        second_order: newton_cg.NewtonCg | lbfgs.Lbfgs | None = None,
        clip_norm: float = 0.0,
        average_decay: float = 0.0,
        average_start: int | None = None,
        gradient_noise: float = 0.0,
        level: tf.Variable | None = None,
        controls: Mapping[str, tf.Variable] | None = None,
        skips: skipping.Rule | None = None,
        measures_all: bool = False,
        batch_norm_group: int = 0,
        compile: str = "auto",
        is_default: bool = True,
        cores: int = 0,
        exact: bool | None = None,
        slices: int = 0,
        steps_per_loop: int = 100,
    ):
        self.strategy = strategy
        self.model = model
        self.groups = groups
        self.rate_level = level
        self.controls = dict(controls or {})
        self._measures_all = measures_all
        self._start = start
        self.replicas = strategy.num_replicas_in_sync
        self.steps_per_loop = steps_per_loop
        # Lines for the user: what the checks of `forward` and the compilation found.
        self.notes: list[str] = []
        mode = compile_modes.chosen(compile, self.replicas, exact or bool(slices))
        self._modes = compile_modes.Modes(mode, self.replicas, is_default, self.notes)
        side_by_side = (cores or devices.cores()) if mode == "cores" else 1
        self.cut = slicing.cut(self.replicas, accumulate, side_by_side, exact, slices)
        keras_layers.install()
        model_check.check(model)
        averages = copies(strategy, model.trainable_variables) if average_decay or average_start is not None else []
        # The whole run's, for evaluations and what is read between two steps.
        self.task = Task(
            model=model,
            name="",
            variables=model.trainable_variables,
            forward=forward,
            objective=tuple(objective),
            batch_losses=batch_losses,
            groups=groups,
            penalty=penalty,
            sharpness=sharpness,
            second_order=second_order,
            clip_norm=clip_norm,
            averages=averages,
            average_decay=average_decay,
            average_start=average_start,
            gradient_noise=gradient_noise,
            loss_scale=loss_scaling.make(strategy) if _is_mixed_float16(model) else None,
            skipping=skips,
            seed=seed,
            split=self.cut.slices > 1,
            has_dead_rows=False,
            batch_rows=0,
            group=batch_norm_group,
            is_by_row={},
            added={},
            moving_statistics=[],
        )
        if several and self.task.loss_scale is not None:
            raise BadInput("--precision=float16 scales one loss, and a step has several updates: expected bfloat16")
        if skips is not None and (several or batch_losses or self.task.loss_scale is not None):
            raise BadInput(
                "--on_nonfinite=skip and --skip_spikes are for steps with one update and losses by example, not for "
                "float16, which skips what is not finite itself: leave them out"
            )
        self.tasks = updates.tasks(self.task, several)
        self.turns = updates.turns(several)
        self._checked: set[bool] = set()
        self._has_trained = False
        self._feeds: dict[int, feed.Feed] = {}
        self._non_finite: dict[int, bool] = {}
        self._loops: dict[tuple, Callable] = {}
        # By `training`: the shapes of the rows at each trace of a forward pass, and so of each compiled program.
        self.traced: dict[bool, list[dict[str, tuple[int, ...]]]] = {True: [], False: []}

    @property
    def compile(self) -> str:
        """What XLA compiles in training: the mode asked for, or the one that was taken instead."""
        return self._modes.of[True]

    def train(self, batches: Batches, first_step: int, steps: int) -> dict[str, np.ndarray]:
        """Trains for `steps` steps from `first_step` on, in compiled calls of at most `steps_per_loop` steps.

        Returns:
            float32 `[steps]` by name: `term/numerator` and `term/weight` of each term over the global batch,
            `learning_rate`, and `gradient_norm` (without clipping 0 but for a call's last step). One entry per step, so
            that any partition of a run adds up to the same.
        """
        return self._run(batches, first_step, steps, training=True)

    def forget(self, batches: Batches) -> None:
        """Releases batches, with their columns on the device."""
        self._feeds.pop(id(batches), None)
        # Other batches may get the same id.
        self._non_finite.pop(id(batches), None)

    def evaluate(self, batches: Batches) -> dict[str, float]:
        """The mean of each term over all examples of the batches, each read exactly once."""
        return self.evaluate_with_outputs(batches)[0]

    def evaluate_with_outputs(self, batches: Batches) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """The mean of each term, and each output `[examples, ...]` in the order of the columns."""
        steps = batches.steps_per_epoch
        scalars = self._run(batches, 0, steps, training=False)
        outputs = {name.removeprefix(_OUTPUT): scalars.pop(name) for name in list(scalars) if name.startswith(_OUTPUT)}
        index, ordered = batches.indices(0, steps), {}
        for name, values in outputs.items():
            ordered[name] = np.empty((batches.examples, *values.shape[2:]), values.dtype)
            # Rows that pad the batch to a multiple of the parts are cut off; those of a short batch have index -1.
            values = values[:, : index.shape[1]]  # [steps, batch, ...]
            ordered[name][index[index >= 0]] = values[index >= 0]
        return means(scalars), ordered

    def evaluate_by_batch(self, batches: Batches) -> dict[str, np.ndarray]:
        """The sums of each batch, float32 `[batches]` by `term/numerator` and `term/weight`."""
        scalars = self._run(batches, 0, batches.steps_per_epoch, training=False)
        return {name: values for name, values in scalars.items() if not name.startswith(_OUTPUT)}

    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """All variables that training changes, by names that do not depend on Keras' layer counters."""
        variables = named(self.model, lambda variable: variable)
        names = {id(variable): name for name, variable in variables.items()}
        trained = [names[id(variable)] for variable in self.model.trainable_variables]
        variables |= {f"seed/{i:04d}": v for i, v in enumerate(model_check.seeds(self.model))}
        for group in self.groups:
            variables |= {f"optimizer/{group.name}/{i:04d}": v for i, v in enumerate(group.optimizer.variables)}
        if self.task.loss_scale is not None:
            variables |= {f"loss_scale/{name}": v for name, v in self.task.loss_scale._asdict().items()}
        if self.task.skipping is not None:
            variables |= {f"{skipping.PREFIX}{name}": v for name, v in self.task.skipping.variables.items()}
        if self.task.second_order is not None:
            own = self.task.second_order.variables
            variables |= {f"{second_order_steps.PREFIX}{name}": v for name, v in own.items()}
        if self.rate_level is not None:
            variables[rate_level.NAME] = self.rate_level
        variables |= {f"{CONTROLS}{name}": v for name, v in self.controls.items()}
        if self._start is not None:
            pulled = [names[id(variable)] for variable in self._start.variables]
            variables |= {n.replace("model/", START, 1): v for n, v in zip(pulled, self._start.values, strict=True)}
        averages = zip(trained, self.task.averages, strict=False)
        return variables | {name.replace("model/", AVERAGE, 1): average for name, average in averages}

    def state(self) -> dict[str, np.ndarray]:
        """A copy of all variables, for a checkpoint of any strategy."""
        return {name: np.array(array(variable)) for name, variable in self.variables().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets all variables from a `state()`.

        Raises:
            BadInput: lists missing, unexpected and mis-shaped names; then nothing was changed.
        """
        own = self.variables()
        # A run may be resumed with another --on_nonfinite.
        state = {name: value for name, value in state.items() if name in own or not _is_optional(name, value)}
        new = {name for name in own if name.startswith(skipping.PREFIX) or name == rate_level.NAME} - state.keys()
        assign({name: variable for name, variable in own.items() if name not in new}, state)

    def load_model(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets the model's variables only, from the `model/` part of a state."""
        variables = {name: variable for name, variable in self.variables().items() if name.startswith("model/")}
        assign(variables, {name: value for name, value in state.items() if name.startswith("model/")})

    def restart_averages(self) -> None:
        """Resets the moving averages, and what `--l2_sp` pulls towards, to the model's current weights."""
        if self._start is not None:
            self._start.restart()
        for average, variable in zip(self.task.averages, self.model.trainable_variables, strict=False):
            average.assign(array(variable))

    def _run(self, batches: Batches, first_step: int, steps: int, *, training: bool) -> dict[str, np.ndarray]:
        self._check_forward(batches, training)
        rows, source, start = [], self._feed(batches), first_step
        while start < first_step + steps:
            count = min(source.steps, first_step + steps - start)
            scalars = self._call(batches, training, *source.chunk(start, count))
            rows.append({name: values.numpy()[:count] for name, values in scalars.items()})
            start += count
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _check_forward(self, batches: Batches, training: bool) -> None:
        if training in self._checked:
            return
        self._checked.add(training)
        for task in self.tasks if training else [self.task]:
            self._check_task(task, batches, training)
        # XLA does not refuse texts: it ends the process.
        texts = [name for name, column in batches.columns.items() if column.dtype.kind in "OSU"]
        while texts and self._modes.take_slower(f"texts (column {texts[0]!r})", "No registered", training):
            pass

    def _check_task(self, task: Task, batches: Batches, training: bool) -> None:
        subject = forward_check.Subject(task.model, task.forward, task.objective, task.seed, task.split)
        with self.strategy.scope():
            result = forward_check.check(subject, batches, training)
        self.notes += [note for note in result.notes if note not in self.notes]
        task.is_by_row[training] = result.is_by_row
        added = added_losses.Kinds(result.added, self.cut.slices)
        trained = task.added.get(True, added)
        # The same layers add the same losses; those that only train add none here.
        task.added[training] = trained if len(trained.of) == len(added.of) else added
        if result.slow_operation and devices.are_cpus(self.strategy):
            self._modes.take_faster(result.slow_operation, training)

    def _call(self, batches: Batches, training: bool, *chunk):
        """One call of the compiled loop; in a slower mode where XLA lacks an operation."""
        if training and self._has_trained:
            # Now another mode would go on from weights that may have changed.
            return self._compiled(batches, training)(*chunk)
        # A failed step of several replicas may have been applied in part.
        before = self.state() if training and self.replicas > 1 and self._modes.of[True] != "none" else {}
        while True:
            try:
                scalars = self._compiled(batches, training)(*chunk)
                self._has_trained |= training
                return scalars
            except tf.errors.OpError as error:
                refusal = str(error) if compile_modes.may_be_xlas(error) else ""
                if not refusal or not self._modes.take_slower(compile_modes.reason(error), refusal, training):
                    raise
            if before:
                self.load(before)

    def _feed(self, batches: Batches) -> feed.Feed:
        if id(batches) not in self._feeds:
            self._feeds[id(batches)] = feed.Feed(batches, self.steps_per_loop, self.cut.slices)
        return self._feeds[id(batches)]

    def _compiled(self, batches: Batches, training: bool) -> Callable:
        # All that a trace depends on besides the loop's arguments: batches with the same key share it.
        mode = self._modes.of[training]
        key = (
            training,
            mode,
            batches.batch_size,
            tuple(batches.widths),
            tuple(batches.sequences),
            training and self.has_dead_rows(batches),
        )
        if key not in self._loops:
            loop = functools.partial(self._loop, batches, training)
            self._loops[key] = tf.function(loop, jit_compile=mode == "loop", autograph=False)
        return self._loops[key]

    def _loop(self, batches, training, columns, index, width_numbers, first_step, steps) -> dict[str, tf.Tensor]:
        """All steps of one call, in the graph: scalars and, in an evaluation, outputs by name, one entry per step."""
        tasks = self.tasks if training else [self.task]
        programs, names = [self._parts(task, batches, training) for task in tasks], []
        length, rows = index.shape
        table = tf.TensorArray(tf.float32, size=length, clear_after_read=False)
        specs = {} if training else self._outputs(batches, columns, rows)
        kept = {name: tf.TensorArray(spec.dtype, length, element_shape=spec.shape) for name, spec in specs.items()}

        def replica(row, width, step, measure):
            share = ReplicaBatch(functools.partial(self._read, columns, row), self.cut)
            if training:
                parts = [widths.all_by_width(batches, width, each) for each in programs]
                (sums, scalars), outputs = updates.in_turn(tasks, parts, self.turns, share, step, measure), {}
            else:
                filled = programs[0]._replace(examine=widths.filled(programs[0].examine, specs))
                parts = widths.all_by_width(batches, width, filled)
                (sums, outputs), scalars = step_functions.evaluate(self.task, parts, share, step), {}
            return stacked(sums, scalars), outputs

        def stacked(sums, scalars) -> tf.Tensor:
            named = {f"{name}/{field}": value for name, both in sums.items() for field, value in both._asdict().items()}
            names[:] = [*named, *scalars]
            return tf.stack([*named.values(), *scalars.values()])

        def body(offset, table, kept):
            place = index[offset], width_numbers[offset], first_step + offset
            if training and self.task.second_order is not None:
                scalars, outputs = stacked(*self._second_order(batches, programs[0], columns, *place)), {}
            else:
                last = tf.constant(True) if self._measures_all else tf.equal(offset, steps - 1)
                scalars, outputs = self._everywhere(replica, *place, last)
            kept = {name: array.write(offset, outputs[name]) for name, array in kept.items()}
            return offset + 1, table.write(offset, scalars), kept

        start = tf.constant(0), table, kept
        _, table, kept = tf.while_loop(lambda offset, *_: offset < steps, body, start, parallel_iterations=1)
        scalars = tf.unstack(table.stack(), num=len(names), axis=1)  # [steps] each
        outputs = {f"{_OUTPUT}{name}": array.stack() for name, array in kept.items()}
        return dict(zip(names, scalars, strict=True)) | outputs

    def _second_order(self, batches, program, columns, row, width, step):
        """One training step of second order, outside of the replicas."""

        def place() -> tuple[StepFunctions, ReplicaBatch]:
            share = ReplicaBatch(functools.partial(self._read, columns, row), self.cut)
            return widths.all_by_width(batches, width, program), share

        return second_order_steps.train(self.task, place, self._everywhere, step)

    def _everywhere(self, function: Callable, *arguments):
        """Runs a function on all replicas; the result is the same on each, as what it sums is reduced there."""
        result = self.strategy.run(function, args=arguments)
        return tf.nest.map_structure(lambda x: self.strategy.experimental_local_results(x)[0], result)

    def _outputs(self, batches: Batches, columns, rows: int) -> dict[str, tf.TensorSpec]:
        """Shapes and types of the task's outputs for a whole batch, by a trace that is not run."""
        index = tf.zeros([rows // self.cut.slices], tf.int32)

        def probe():
            batch = _gathered(columns, index)
            rows = MicroBatch(batch, tf.ones(index.shape), tf.constant(0))
            return slice_pass.examine(self.task, rows, tf.constant(0))[1]

        outputs = tf.function(probe, autograph=False).get_concrete_function().structured_outputs
        return {name: tf.TensorSpec([rows, *spec.shape[1:]], spec.dtype) for name, spec in outputs.items()}

    def _parts(self, task: Task, batches: Batches, training: bool) -> StepFunctions:
        mode, has_dead_rows = self._modes.of[training], training and self.has_dead_rows(batches)
        task = task._replace(has_dead_rows=has_dead_rows, batch_rows=batches.batch_size)
        chosen = step_functions.update if task.second_order is None else second_order_steps.update
        functions = (slice_pass.weights, slice_pass.outputs, gauss_newton.product, chosen)
        weights, outputs, product, update = (functools.partial(function, task) for function in functions)

        def gradients(rows: MicroBatch, *rest):
            self._note(rows, training=True)
            return slice_pass.gradients(task, rows, *rest)

        def examine(rows: MicroBatch, *rest):
            self._note(rows, training=False)
            return slice_pass.examine(task, rows, *rest)

        parts = [gradients, weights, outputs, examine, product]
        compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
        # With several replicas the update cannot be compiled: it touches variables of other devices. Nor where it must
        # be the same as there.
        if mode in ("step", "cores", "islands") and self.replicas == 1 and not self.cut.is_exact:
            update = compiled(update)
        if mode not in ("step", "cores"):
            if self.cut.is_exact:
                # Not put in line, as TensorFlow would rewrite the operations together with those around them.
                apart = functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})
                parts = [*map(apart, parts)]
            return StepFunctions(*parts, update)
        return StepFunctions(*map(compiled, parts), update)

    def has_dead_rows(self, batches: Batches) -> bool:
        """Whether what examples of weight 0 hold could make a gradient NaN; looked for once in each data set."""
        if id(batches) not in self._non_finite:
            self._non_finite[id(batches)] = dead_rows.may_be_non_finite(batches)
        return self._non_finite[id(batches)]

    def _note(self, rows: MicroBatch, training: bool) -> None:
        """Runs when a forward pass is traced, not when it is executed."""
        self.traced[training].append({name: tuple(values.shape) for name, values in rows.batch.items()})

    def _read(self, columns, row, number) -> MicroBatch:
        """Gathers this replica's rows of slice `number`; index -1 is padding: the batch's first row, with weight 0."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        size = row.shape[0] // self.cut.slices
        first = (replica * self.cut.micro_batches * self.cut.side_by_side + number) * size
        index = tf.ensure_shape(tf.slice(row, [first], [size]), [size])
        # With several replicas the columns stay on the host: a device would copy them whole in every step.
        with tf.device("/CPU:0" if self.replicas > 1 else None):
            batch = _gathered(columns, tf.where(index >= 0, index, row[0]))
        return MicroBatch(batch, tf.cast(index >= 0, tf.float32), first)


def _is_optional(name: str, value: np.ndarray) -> bool:
    """Whether a state's variable may be left out by an engine that has none of that name."""
    return name.startswith(skipping.PREFIX) or (name == rate_level.NAME and value == 1.0)


def _is_mixed_float16(model: keras.Model) -> bool:
    """Whether a layer computes in float16 with float32 weights; float16 weights could not be moved by small steps."""
    return any(each.compute_dtype == "float16" and each.variable_dtype == "float32" for each in all_layers(model))


def _gathered(columns: Mapping[str, tf.Tensor], index: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: tf.gather(column, index) for name, column in columns.items()}
