"""Compiled programs: one trace per shape, results as without compilation, and no warnings about retracing."""

import logging

import numpy as np
import pytest
import tensorflow as tf

from zoo.predict.predictors.compiled_programs import CompiledPrograms, doubled_size, next_size, zero_padded

SHAPES = [(rows, width) for rows in (1, 2, 4) for width in (3, 5)]


@pytest.fixture
def log(caplog):
    """TensorFlow's log, which does not propagate to the root logger that pytest reads."""
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING, logger=logger.name):
        yield caplog
    logger.removeHandler(caplog.handler)


def traced():
    """A function of a nest of tensors, and the shapes that it was traced with."""
    shapes = []

    def function(x, state):
        shapes.append(tuple(x.shape))
        total = tf.cumsum(x, axis=1) + state["sum"][:, None]
        return tf.tanh(total), {"sum": total[:, -1]}

    return function, shapes


def inputs(shape):
    x = np.random.default_rng(shape).normal(size=shape).astype(np.float32)
    return tf.constant(x), {"sum": tf.constant(x[:, 0])}


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_trace_per_shape_and_the_eager_results(jit_compile):
    function, shapes = traced()
    programs = CompiledPrograms(function, jit_compile)
    results = [(shape, programs(*inputs(shape))) for shape in SHAPES * 2]
    assert shapes == SHAPES
    for shape, (outputs, state) in results:
        expected, expected_state = function(*inputs(shape))
        np.testing.assert_allclose(outputs, expected, atol=1e-6)
        np.testing.assert_allclose(state["sum"], expected_state["sum"], atol=1e-6)


def test_outputs_may_be_inputs_again():
    function, shapes = traced()
    programs = CompiledPrograms(function)
    x, state = inputs((2, 3))
    _, after = programs(x, state)
    programs(x, after)
    assert len(shapes) == 1


def test_no_warning_about_retracing_which_a_call_of_the_function_itself_gives(log):
    function, _ = traced()
    programs, plain = CompiledPrograms(function), tf.function(function, autograph=False)
    for shape in SHAPES:
        programs(*inputs(shape))
    assert not log.records
    for shape in SHAPES:
        plain(*inputs(shape))
    assert "retracing" in log.text


def test_the_next_size():
    assert [next_size(number, (1, 16, 256)) for number in (0, 1, 2, 16, 17, 256, 300)] == [1, 1, 16, 16, 256, 256, 256]


def test_sizes_that_double_up_to_a_limit():
    assert [doubled_size(number, 32) for number in (0, 32, 33, 64, 65, 1000)] == [32, 32, 64, 64, 128, 1024]
    assert [doubled_size(number, 32, 100) for number in (1, 33, 65, 100)] == [32, 64, 100, 100]
    assert doubled_size(3, 32, 20) == 20


def test_padding_is_zeros_at_the_end():
    padded = zero_padded(np.array([[1, 2], [3, 4]], np.int64), (3, 4))
    assert padded.dtype == np.int32
    np.testing.assert_array_equal(padded, [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]])
