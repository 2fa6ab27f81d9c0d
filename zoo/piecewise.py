"""Numbers that change at given steps, as flags have them: `0:3,600:0.3`, 3 from the start and 0.3 from step 600 on."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from zoo.errors import BadInput


class Piece(NamedTuple):
    """A number, and the step from which on it holds."""

    step: int
    value: float


def parse(flag: str, text: str) -> list[Piece]:
    """The pieces of a flag's text, none where it is empty.

    Raises:
        BadInput: another form, steps that do not rise, or a number below 0.
    """
    pieces: list[Piece] = []
    for part in text.split(",") if text else []:
        step, colon, number = part.partition(":")
        try:
            piece = Piece(int(step), float(number))
        except ValueError:
            colon = ""
        if not (colon and step.isdecimal() and 0 <= piece.value < math.inf and piece.step < 2**63):
            raise BadInput(f"--{flag} has {part!r}: expected STEP:NUMBER, as in 0:1,600:0.3, and numbers from 0 on")
        if pieces and piece.step <= pieces[-1].step:
            raise BadInput(f"--{flag} has step {piece.step} after step {pieces[-1].step}: expected rising steps")
        pieces.append(piece)
    return pieces


def as_text(pieces: Iterable[Piece]) -> str:
    """What `parse` reads."""
    return ",".join(f"{step}:{value!r}" for step, value in pieces)


def value(pieces: Iterable[Piece], step: int, before: float) -> float:
    """The number of a step.

    Args:
        pieces: in the order of their steps.
        step: the step.
        before: the number before the first piece.
    """
    for piece in pieces:
        if piece.step > step:
            break
        before = piece.value
    return before


def changed(pieces: Iterable[Piece], later: Iterable[Piece]) -> list[Piece]:
    """Pieces whose end is replaced from the first step of others on."""
    later = list(later)
    return [piece for piece in pieces if not later or piece.step < later[0].step] + later


def steps_until_next(pieces: Iterable[Piece], step: int) -> int | None:
    """Steps until the number changes; None if it does not."""
    return next((piece.step - step for piece in pieces if piece.step > step), None)
