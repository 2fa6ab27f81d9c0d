"""An optimizer for dynamic evaluation: SGD or normalised steps, with decay towards the original weights.

Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models", 2018, section 4, equations 5 to 8.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from zoo.engine.private_apis import variable_index

# Added to the root mean square; the paper's program uses 2e-5 for gradients of this size.
_EPSILON = 2e-5


class DynamicOptimizer(keras.optimizers.Optimizer):
    """Gradient descent with decay towards the source, which is the weights at `build`.

    For a weight `w` with source `s` and gradient `g` a step adds `decay * n * (s - w) - rate * g / r`. By default `r`
    and `n` are 1. Normalised, `r` is the root mean square of the gradient over segments of the training text, measured
    between `measure_gradients` and `end_measurement`, and `n` is `r` over its mean, at most `1 / decay`: a weight with
    small gradients in training moves more and decays less.

    Args:
        learning_rate: learning rate; `set` changes it without another compilation.
        decay: share of the way back to the source in each step; `set` changes it, too.
        normalised: whether to divide by the gradient's root mean square.
    """

    def __init__(self, learning_rate: float, decay: float = 0.0, normalised: bool = False):
        super().__init__(learning_rate=float(learning_rate), name="returning")
        self._first_decay, self._normalised = decay, normalised

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Stores the current weights as the source."""
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
        """Changes both rates without another compilation."""
        self.learning_rate = learning_rate
        self._decay.assign(decay)

    def measure_gradients(self) -> None:
        """Starts a measurement: steps only add up squared gradients, and no weight changes."""
        self._measuring.assign(1.0)
        for squares in self._squares:
            squares.assign(tf.zeros(squares.shape))

    def end_measurement(self, steps: int) -> None:
        """Ends the measurement after a number of steps."""
        total, size = 0.0, 0
        for squares in self._squares:
            squares.assign(squares.value / steps)
            total += float(tf.reduce_sum(tf.sqrt(squares.value)))
            size += int(keras.ops.size(squares))
        self._mean.assign(total / size)
        self._measuring.assign(0.0)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """The step of one variable; Keras calls it."""
        number, learning_rate = variable_index(self, variable), tf.cast(learning_rate, gradient.dtype)
        direction, decay = gradient, self._decay.value
        if self._normalised:
            squares = self._squares[number]
            self.assign_add(squares, self._measuring.value * gradient**2)
            root = tf.sqrt(squares.value)
            direction, decay = gradient / (root + _EPSILON), tf.minimum(decay * root / self._mean.value, 1.0)
        step = decay * (self._source[number].value - tf.convert_to_tensor(variable)) - learning_rate * direction
        self.assign_add(variable, (1.0 - self._measuring.value) * step)

    def _scalar(self, name: str, value: float) -> keras.Variable:
        return self.add_variable((), initializer=keras.initializers.Constant(value), name=name)
