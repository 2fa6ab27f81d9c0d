"""The engine: compiled inner loops for training and evaluation over any strategy."""

import functools
import re
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from zoo.data.batches import Batches
from zoo.engine import feed
from zoo.engine import step as steps_of
from zoo.engine.optimizers import Group
from zoo.engine.regularization import Penalty
from zoo.engine.step import Forward, Micro, Rows, Task
from zoo.errors import BadInput

# They change weights in the forward pass, behind the optimizer's back.
_STATEFUL = (keras.layers.BatchNormalization, keras.layers.SpectralNormalization)
COMPILE = ("auto", "loop", "step", "none")


class Engine:
    """Trains and evaluates one model; knows no file, no flag and no data set.

    Args:
        strategy: the engine is made, and its methods are called, under its scope or outside any.
        model: built, under the strategy's scope.
        forward: the whole task on one replica's rows: `forward(model, batch, training) -> dict[str, Term]`.
        objective: names of the terms whose means are added up to the loss.
        groups: from `optimizers.groups`.
        penalty: from `regularization.penalty`, or None.
        seed: of all noise.
        accumulate: micro-batches per step.
        clip_norm: largest global norm of the gradient; 0 does not clip.
        average_decay: of the moving average of the weights; 0 keeps none.
        compile: `loop` makes one XLA program of a whole call (one replica only), `step` one of each micro-batch's
            forward and backward pass, `none` plain graphs; `auto` the fastest of these that the strategy allows.
        steps_per_loop: the most steps of one call; any value gives the same run.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        forward: Forward,
        objective: Sequence[str],
        groups: Sequence[Group],
        *,
        penalty: Penalty | None = None,
        seed: int = 0,
        accumulate: int = 1,
        clip_norm: float = 0.0,
        average_decay: float = 0.0,
        compile: str = "auto",
        steps_per_loop: int = 100,
    ):
        self.strategy = strategy
        self.model = model
        self.groups = groups
        self.replicas = strategy.num_replicas_in_sync
        self.accumulate = accumulate
        self.steps_per_loop = steps_per_loop
        self.compile = _compile_mode(compile, self.replicas)
        _check_model(model, self.replicas * accumulate)
        averages = _averages(strategy, model) if average_decay else []
        self.task = Task(
            model=model,
            forward=forward,
            objective=tuple(objective),
            groups=groups,
            penalty=penalty,
            clip_norm=clip_norm,
            averages=averages,
            average_decay=average_decay,
            seed=seed,
            split=self.replicas * accumulate > 1,
            followers=[],
        )
        self._feeds: dict[int, feed.Feed] = {}
        self._train_loop = self._compiled(functools.partial(self._loop, training=True))
        self._evaluate_loop = self._compiled(functools.partial(self._loop, training=False))

    def train(self, batches: Batches, first_step: int, steps: int) -> dict[str, np.ndarray]:
        """Runs the steps from `first_step` on, in calls of the compiled loop of at most `steps_per_loop` each.

        Returns:
            float32 `[steps]` by name: `term/numerator` and `term/weight` of each term over the global batch,
            `learning_rate`, `gradient_norm` (of every step where it is clipped, else of the last; 0 elsewhere). One
            entry per step, so that any partition of a run adds up to the same.
        """
        return self._run(self._train_loop, batches, first_step, steps)

    def evaluate(self, batches: Batches) -> dict[str, float]:
        """The mean of each term over all examples of the batches, each read exactly once."""
        return means(self._run(self._evaluate_loop, batches, 0, batches.steps_per_epoch))

    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """Everything that changes in training, by a name that does not depend on Keras' counters of layers."""
        named = {f"model/{i:04d}/{plain_name(v)}": v for i, v in enumerate(self.model.weights)}
        named |= {f"seed/{i:04d}": v for i, v in enumerate(_seeds(self.model))}
        for group in self.groups:
            named |= {f"optimizer/{group.name}/{i:04d}": v for i, v in enumerate(group.optimizer.variables)}
        return named | {f"average/{i:04d}": v for i, v in enumerate(self.task.averages)}

    def state(self) -> dict[str, np.ndarray]:
        """A copy of all variables, for a checkpoint of any strategy."""
        return {name: np.array(_value(variable)) for name, variable in self.variables().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets all variables from a `state()`.

        Raises:
            BadInput: names what is missing, unexpected or of another shape; then nothing was changed.
        """
        assign(self.variables(), state)

    def averaged(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The `model/` part of a state, of this run or another, with its moving averages where it kept some.

        Raises:
            BadInput: the averages are not of this model's trained weights.
        """
        model = {name: value for name, value in state.items() if name.startswith("model/")}
        averages = [state[name] for name in sorted(state) if name.startswith("average/")]
        if averages:
            places = {id(variable): name for name, variable in self.variables().items()}
            names = [places[id(variable)] for variable in self.model.trainable_variables]
            if len(names) != len(averages):
                raise BadInput(f"there are {len(averages)} averaged weights, the model trains {len(names)}")
            model |= dict(zip(names, averages, strict=True))
        return model

    def load_model(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets the model's variables only, from the `model/` part of a state."""
        wanted = {name: variable for name, variable in self.variables().items() if name.startswith("model/")}
        assign(wanted, {name: value for name, value in state.items() if name.startswith("model/")})

    def restart_averages(self) -> None:
        """Lets the moving averages start from the model's present weights."""
        for average, variable in zip(self.task.averages, self.model.trainable_variables, strict=False):
            average.assign(_value(variable))

    def _run(self, loop, batches: Batches, first_step: int, steps: int) -> dict[str, np.ndarray]:
        rows, source = [], self._feed(batches)
        for start in range(first_step, first_step + steps, source.steps):
            count = min(source.steps, first_step + steps - start)
            columns, index = source.chunk(start, count)
            found = loop(columns, index, tf.constant(start), tf.constant(count))
            rows.append({name: values.numpy()[:count] for name, values in found.items()})
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _feed(self, batches: Batches) -> feed.Feed:
        if id(batches) not in self._feeds:
            parts = self.replicas * self.accumulate
            self._feeds[id(batches)] = feed.Feed(batches, self.steps_per_loop, parts)
        return self._feeds[id(batches)]

    def _compiled(self, loop):
        return tf.function(loop, jit_compile=self.compile == "loop", autograph=False, reduce_retracing=False)

    def _loop(self, columns, index, first_step, steps, *, training: bool) -> dict[str, tf.Tensor]:
        """All steps of one call, in the graph; scalars by name, one of each per step."""
        micro, names = self._micro(), []
        table = tf.TensorArray(tf.float32, size=index.shape[0], clear_after_read=False)

        def replica(row, step, measure):
            read = functools.partial(self._read, columns, row)
            if training:
                sums, scalars = steps_of.train(self.task, micro, read, self.accumulate, step, measure)
            else:
                sums, scalars = steps_of.evaluate(self.task, read, self.accumulate, step), {}
            named = {f"{name}/{field}": value for name, both in sums.items() for field, value in both._asdict().items()}
            names[:] = [*named, *scalars]
            return tf.stack([*named.values(), *scalars.values()])

        def body(offset, table):
            last = tf.equal(offset, steps - 1)
            result = self.strategy.run(replica, args=(index[offset], first_step + offset, last))
            # The scalars are reduced already, so any replica's are everybody's.
            result = self.strategy.experimental_local_results(result)[0]
            return offset + 1, table.write(offset, result)

        _, table = tf.while_loop(lambda offset, _: offset < steps, body, (tf.constant(0), table), parallel_iterations=1)
        columns_of = tf.unstack(table.stack(), num=len(names), axis=1)
        return dict(zip(names, columns_of, strict=True))

    def _micro(self) -> Micro:
        gradients = functools.partial(steps_of.gradients, self.task)
        weights = functools.partial(steps_of.weights, self.task)
        if self.compile != "step":
            return Micro(gradients, weights)
        compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
        return Micro(compiled(gradients), compiled(weights))

    def _read(self, columns, row, number) -> Rows:
        """Gathers this replica's rows of micro-batch `number`."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        size = row.shape[0] // (self.replicas * self.accumulate)
        first = (replica * self.accumulate + number) * size
        index = tf.ensure_shape(tf.slice(row, [first], [size]), [size])
        # With several replicas the columns stay on the host: a device would copy them whole at every step.
        place = tf.device("/CPU:0") if self.replicas > 1 else tf.device(None)
        with place:
            batch = {name: tf.gather(column, tf.maximum(index, 0)) for name, column in columns.items()}
        return Rows(batch, tf.cast(index >= 0, tf.float32), first)


def means(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Sum / sum of each term over all steps at hand, added up in float64 in the order of the steps."""
    return ratios({name: sum(values.tolist()) for name, values in found.items()})


def ratios(totals: Mapping[str, float]) -> dict[str, float]:
    """`name/numerator` divided by `name/weight`, by name; other entries are left out."""
    names = [name.removesuffix("/numerator") for name in totals if name.endswith("/numerator")]
    return {name: totals[f"{name}/numerator"] / (totals[f"{name}/weight"] or 1.0) for name in names}


def assign(variables: Mapping[str, keras.Variable | tf.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Sets variables by name, all or none.

    Raises:
        BadInput: lists missing, unexpected and mis-shaped names.
    """
    wrong = [f"{name}: missing" for name in variables.keys() - values.keys()]
    wrong += [f"{name}: unexpected" for name in values.keys() - variables.keys()]
    for name in variables.keys() & values.keys():
        if tuple(variables[name].shape) != tuple(values[name].shape):
            wrong.append(f"{name}: shape {values[name].shape}, the model has {tuple(variables[name].shape)}")
    if wrong:
        raise BadInput(f"the weights do not fit the model: {'; '.join(sorted(wrong)[:6])} ({len(wrong)} in all)")
    for name, variable in variables.items():
        variable.assign(values[name])


def _compile_mode(wanted: str, replicas: int) -> str:
    if wanted not in COMPILE:
        raise BadInput(f"--compile is {wanted!r}: expected one of {', '.join(COMPILE)}")
    if wanted == "loop" and replicas > 1:
        raise BadInput(f"--compile=loop makes one program of one replica, here are {replicas}: use step or auto")
    return ("loop" if replicas == 1 else "step") if wanted == "auto" else wanted


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """The states of Keras' own random layers, which the model has besides its weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def plain_name(variable: keras.Variable) -> str:
    """A variable's name without the number that Keras gives to the second and later ones of a process."""
    return re.sub(r"_\d+$", "", variable.name)


def _check_model(model: keras.Model, parts: int) -> None:
    """Refuses models whose layers would learn or draw something else on other hardware."""
    if not model.built:
        raise BadInput(f"the model {model.name!r} has no weights yet: give it an Input, or build it, inside build()")
    seeds = _seeds(model)
    if seeds and parts > 1:
        raise BadInput(
            f"{seeds[0].path}: a Keras layer with a random state of its own cannot be split over {parts} replicas x "
            "micro-batches; use zoo.Dropout, whose masks belong to the examples"
        )
    for layer in model._flatten_layers():
        if isinstance(layer, _STATEFUL) and layer.trainable:
            raise BadInput(
                f"{layer.name}: {type(layer).__name__} learns from each replica's rows, padding included; use "
                "zoo.models.layers.BatchNorm, or freeze it with trainable=False"
            )


def _averages(strategy: tf.distribute.Strategy, model: keras.Model) -> list[tf.Variable]:
    """One copy per replica, kept equal by equal updates, so that no update needs the other replicas."""
    with strategy.scope():
        return [
            tf.Variable(
                _value(variable),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for variable in model.trainable_variables
        ]


def _value(variable: keras.Variable | tf.Variable) -> np.ndarray:
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return (value.read_value() if hasattr(value, "read_value") else value).numpy()
