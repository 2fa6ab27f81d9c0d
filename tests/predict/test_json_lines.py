"""Lines of JSON that Python reads and JSON does not have, and texts in the place of numbers."""

import tracemalloc

import numpy as np
import pytest

from zoo.predict.predictors import array_inputs, text_inputs


@pytest.mark.parametrize("name", ["NaN", "Infinity", '["a", -Infinity]', "1e999"])
def test_an_id_that_is_not_json_is_refused(name):
    [arrays] = array_inputs.lines([f'{{"x": [1, 2], "id": {name}}}'.encode()], (2,), np.dtype("float32"))
    [texts] = text_inputs.lines([f'{{"text": "a", "id": {name}}}'.encode()])
    for line in (arrays, texts):
        assert line.examples is None and line.id is None and line.error.startswith("id holds NaN or Infinity")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('["a", 2]', "holds text ('a'), expected numbers"),
        ("[null, 2]", "holds null, expected numbers"),
        ('[{"a": 1}, 2]', "holds an object, expected numbers"),
        ("[1e999, 2]", "inf at [0], expected finite float32 numbers"),
        (f"[1{'0' * 400}, 2.5]", "holds a whole number of more than 64 bits"),
        ("[[1], 2]", "lists of different lengths"),
        ("[" * 5000 + "]" * 5000, "is not JSON"),
        ("[1, 2, 3]", "shape (3,), expected (2,)"),
    ],
)
def test_what_is_not_numbers_is_said(value, said):
    [line] = array_inputs.lines([value.encode()], (2,), np.dtype("float32"))
    assert line.examples is None and line.error.startswith(said)


def test_a_long_text_among_numbers_takes_no_more_than_itself():
    text = f'["{"a" * 1_000_000}", {", ".join("1" * 100)}]'.encode()
    tracemalloc.start()
    [line] = array_inputs.lines([text], (101,), np.dtype("float32"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert line.error == "holds text ('aaaaaaaaaaaaaaaaaaaa'), expected numbers" and peak < 20e6
