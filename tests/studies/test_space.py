"""The space of a sweep as text: what it means, and what is refused."""

import pytest

from zoo.cli import sweep as command
from zoo.errors import BadInput
from zoo.studies import search, space
from zoo.studies.search import grid
from zoo.studies.space import Dimension

KINDS = {"learning_rate": float, "units": int, "optimizer": str, "hidden": tuple, "metric": str, "seeds": int}


def read(text, sampler="tpe"):
    return space.checked(space.parse(text), KINDS, {"lr": "learning_rate"}, sampler)


def test_choices_ranges_and_second_names():
    assert read("lr=log:1e-4..1e-1 units=2..8 optimizer=adamw|sgd hidden=64|64,32") == [
        Dimension("learning_rate", (), 1e-4, 0.1, True),
        Dimension("units", (), 2.0, 8.0, whole=True),
        Dimension("optimizer", ("adamw", "sgd")),
        Dimension("hidden", ("64", "64,32")),
    ]
    assert read("units=2..8")[0].edges() == ("2", "8") and read("lr=-1..0.5")[0].edges() == ("-1.0", "0.5")


def test_the_command_line_offers_what_the_search_has():
    # They are written twice, so that the command line starts without Optuna.
    assert (command._SAMPLERS, command._PRUNERS) == (search.SAMPLERS, search.PRUNERS)


def test_a_grid_is_all_combinations_in_order():
    found = grid(read("lr=log:0.001..0.1/3 units=1..2 optimizer=adamw|sgd", "grid"))
    rates, units, optimizers = ("0.001", "0.01", "0.1"), ("1", "2"), ("adamw", "sgd")
    assert found == [(a, b, c) for a in rates for b in units for c in optimizers]
    assert read("lr=0.1..0.3/3", "grid")[0].grid() == ("0.1", "0.2", "0.3")
    # Rounded to whole numbers, without repetition.
    assert read("units=log:1..8/6", "grid")[0].grid() == ("1", "2", "3", "5", "8")


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "--space is empty"),
        ("learning_rate", "expected NAME=A|B|C"),
        ("learning_rate=0.1", "one value: give it as a flag, --learning_rate=0.1"),
        ("learning_rate=a..b", "expected two numbers"),
        ("learning_rate=2..1", "expected LOW < HIGH"),
        ("learning_rate=0..nan", "expected LOW < HIGH"),
        ("learning_rate=log:0..1", "a logarithmic range starts above 0"),
        ("optimizer=sgd|sgd", "a value twice"),
        ("units=1..2 units=3..4", "has units twice"),
        ("lr=0..1 learning_rate=1..2", "a flag under two names"),
        ("learning_rat=0..1", "did you mean learning_rate"),
        ("optimizer=1..2", "optimizer, which is no number"),
        ("units=0.5..2", "units is a whole number"),
        ("metric=loss|accuracy", "judged by one metric"),
        ("seeds=1|2", "a seed is not to be tuned"),
        ("learning_rate=0..1/5", "points are for --sampler=grid"),
    ],
)
def test_what_is_no_space_is_refused(text, said):
    with pytest.raises(BadInput) as refused:
        read(text)
    assert said in str(refused.value) and str(refused.value).startswith("--space")


def test_a_grid_needs_points_and_has_an_end():
    with pytest.raises(BadInput, match=r"expected learning_rate=log:0.001..0.1/5 or values"):
        grid(read("learning_rate=log:1e-3..1e-1", "grid"))
    with pytest.raises(BadInput, match="40,000 combinations"):
        grid(read("learning_rate=0..1/200 units=1..200/200", "grid"))
    with pytest.raises(BadInput, match="two points or more"):
        read("learning_rate=0..1/1", "grid")
