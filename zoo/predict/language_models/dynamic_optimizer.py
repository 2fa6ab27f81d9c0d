"""An optimizer for dynamic evaluation: plain steps, drawn back to where they began, in units of each weight's gradient.

Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models", 2018, section 4, equations 5 to 8.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.engine.private_apis import variable_index

# Of a root mean square; the paper's program has 2e-5 where gradients are as large.
_EPSILON = 2e-5


class DynamicOptimizer(keras.optimizers.Optimizer):
    """Gradient descent from a source to which each step also goes back a little.

    Of a weight `w` with source `s` and gradient `g`: `w -= rate * g / r`, then `w += decay * n * (s - w)`. Not
    normalised, `r` and `n` are 1. Normalised, `r` is the root mean square of the gradient over segments of the
    training text, from `measure` to `measured`, and `n` is `r` over its mean, at most `1 / decay`: a weight that the
    training text hardly moves is moved more, and held less.

    Args:
        learning_rate: may be set later, and is none of the compiled program.
        decay: share of the way back; may be set likewise.
        normalised: whether by the gradient's root mean square.
    """

    def __init__(self, learning_rate: float, decay: float = 0.0, normalised: bool = False):
        super().__init__(learning_rate=float(learning_rate), name="returning")
        self._first_decay, self._normalised = decay, normalised

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Keeps the weights as they are as the source."""
        if self.built:
            return
        super().build(variables)
        self._source = self.add_optimizer_variables(variables, "source")
        for source, variable in zip(self._source, variables):
            source.assign(variable.value)
        self._squares = self.add_optimizer_variables(variables, "squares") if self._normalised else []
        self._decay = self._scalar("decay", self._first_decay)
        self._measuring = self._scalar("measuring", 0.0)
        self._mean = self._scalar("mean", 1.0)

    def set(self, learning_rate: float, decay: float) -> None:
        """Changes what is in no compiled program."""
        self.learning_rate = learning_rate
        self._decay.assign(decay)

    def measure_gradients(self) -> None:
        """From here on steps only add up squares of gradients, and no weight moves."""
        self._measuring.assign(1.0)
        for squares in self._squares:
            squares.assign(tf.zeros(squares.shape))

    def measured(self, steps: int) -> None:
        """Ends this after so many steps."""
        total, size = 0.0, 0
        for squares in self._squares:
            squares.assign(squares.value / steps)
            total += float(tf.reduce_sum(tf.sqrt(squares.value)))
            size += int(keras.ops.size(squares))
        self._mean.assign(total / size)
        self._measuring.assign(0.0)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """One variable's step; called by Keras."""
        number, learning_rate = variable_index(self, variable), tf.cast(learning_rate, gradient.dtype)
        way, back = gradient, self._decay.value
        if self._normalised:
            squares = self._squares[number]
            self.assign_add(squares, self._measuring.value * gradient**2)
            root = tf.sqrt(squares.value)
            way, back = gradient / (root + _EPSILON), tf.minimum(back * root / self._mean.value, 1.0)
        step = back * (self._source[number].value - tf.convert_to_tensor(variable)) - learning_rate * way
        self.assign_add(variable, (1.0 - self._measuring.value) * step)

    def _scalar(self, name: str, value: float) -> keras.Variable:
        return self.add_variable((), initializer=keras.initializers.Constant(value), name=name)
