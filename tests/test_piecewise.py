"""Numbers that change at given steps: texts of flags, and the number of each step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.small import SmallConfig
from zoo import piecewise
from zoo.errors import BadInput
from zoo.piecewise import Piece

PIECES = st.dictionaries(st.integers(0, 50), st.floats(0, 1e6)).map(
    lambda values: [Piece(step, values[step]) for step in sorted(values)]
)


@given(PIECES)
def test_a_text_is_read_as_it_was_written(pieces):
    assert piecewise.parse("rate_factors", piecewise.as_text(pieces)) == pieces


@given(PIECES, st.integers(0, 60))
def test_the_number_of_a_step_is_that_of_the_last_piece_before_it(pieces, step):
    expected = ([0.25] + [piece.value for piece in pieces if piece.step <= step])[-1]
    assert piecewise.value(pieces, step, 0.25) == expected
    wait = piecewise.steps_until_next(pieces, step)
    assert all(piecewise.value(pieces, step + k, 0.25) == expected for k in range(60 if wait is None else wait))
    assert wait is None or any(piece.step == step + wait for piece in pieces)


@given(PIECES, PIECES, st.integers(0, 60))
def test_later_pieces_replace_the_end(pieces, later, step):
    is_later = later and step >= later[0].step
    expected = piecewise.value(later if is_later else pieces, step, 0.25)
    assert piecewise.value(piecewise.changed(pieces, later), step, 0.25) == expected


@pytest.mark.parametrize(
    "text",
    ["3", "a:1", "1:b", "1:-1", "1:nan", "1:inf", "-1:2", "1.5:2", "1:1,", ",", "1: 2,,3:4", "9223372036854775808:1"],
)
def test_other_texts_are_refused(text):
    with pytest.raises(BadInput, match=r"--rate_factors has .*: expected STEP:NUMBER, as in 0:1,600:0.3"):
        piecewise.parse("rate_factors", text)


def test_a_config_refuses_them_at_once():
    with pytest.raises(BadInput, match="--weight_decays has step 3 after step 3: expected rising steps"):
        SmallConfig(weight_decays="0:0,3:1,3:2")
    with pytest.raises(BadInput, match="--controller and --rate_factors: the first chooses the second"):
        SmallConfig(controller=True, rate_factors="0:3")
