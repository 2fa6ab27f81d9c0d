"""Several gaps of a text are filled in rounds, so that each word may know the others.

Mask-Predict (Ghazvininejad et al., "Mask-predict: parallel decoding of conditional masked language models", 2019,
section 3): all gaps are filled at once, then in each round the least sure words are taken out again and predicted from
the others; fewer in each round, linearly.

The words of the rounds are kept only if the model finds the text with them no less probable than with those of one
round: by the pseudo-log-likelihood, the sum of log P of each filled word given all else (Salazar et al., "Masked
language model scoring", 2020, section 2).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.predict.predictors.fill_mask import Asked, FillMask, Guess

# float32 may say 0, whose logarithm would be no number that one can print or compare.
_TINY = 1e-45


class Filled(NamedTuple):
    """A text's gaps after some rounds.

    Attributes:
        gaps: of each gap the most probable words, the best first, as they were when it was filled last.
        kept: whether they are those of all rounds; else of one.
        before: pseudo-log-likelihood, in nats, of the best words of one round.
        after: of the best words of all rounds.
    """

    gaps: list[list[Guess]]
    kept: bool
    before: float
    after: float


class MaskPredict:
    """Fills the gaps of texts in rounds; takes the place of a `FillMask` on the command line.

    Args:
        predictor: of a run of masked language modelling.
        rounds: 1 or more; one is what the predictor does itself. The paper has 4 and 10.
    """

    task, reads_text, pair_column = "pretraining", True, ""

    def __init__(self, predictor: FillMask, rounds: int):
        if rounds < 1:
            raise ValueError(f"rounds is {rounds}: expected 1 or more")
        self._predictor, self.rounds = predictor, rounds
        self.model, self.text_column = predictor.model, predictor.text_column
        self.read, self.lines = predictor.read, predictor.lines

    def predict(self, texts: Sequence[str], top: int = 1) -> list[Filled]:
        """The filled texts; see `fill` and `Predictor`."""
        return self.fill(texts, top)

    def fill(self, texts: Sequence[str], top: int = 1) -> list[Filled]:
        """The words of all rounds, or of one where the model finds those more probable; see `FillMask.fill`."""
        read = self._predictor.ids(texts)
        drafts = [_Draft(number, ids, self._predictor.gaps(ids)) for number, ids in enumerate(read)]
        self._fill(drafts, [range(len(draft.gaps)) for draft in drafts], top)
        first = [draft.copy() for draft in drafts]
        for number in range(1, self.rounds):
            self._fill(drafts, [draft.least_sure(number, self.rounds) for draft in drafts], top)
        before, after = self._likelihood(first), self._likelihood(drafts)
        found = []
        for one, all_of, was, now in zip(first, drafts, before, after):
            kept = now >= was
            found.append(Filled((all_of if kept else one).guesses, kept, was, now))
        return found

    def _fill(self, drafts: Sequence["_Draft"], chosen: Sequence[Sequence[int]], top: int) -> None:
        """Predicts the chosen gaps of each draft, none of which is seen meanwhile."""
        asked, owners = [], []
        for draft, numbers in zip(drafts, chosen):
            ids = draft.ids.copy()
            ids[[draft.gaps[number] for number in numbers]] = self._predictor.mask
            asked += [Asked(draft.text, ids, draft.gaps[number]) for number in numbers]
            owners += [(draft, number) for number in numbers]

        def read(row: int, chances: np.ndarray) -> None:
            draft, number = owners[row]
            draft.guesses[number] = self._predictor.best(chances, top)
            draft.sure[number] = chances.max()
            draft.words[number] = int(chances.argmax())

        self._predictor.ask(asked, read)
        for draft in drafts:
            draft.ids[draft.gaps] = draft.words

    def _likelihood(self, drafts: Sequence["_Draft"]) -> list[float]:
        """Pseudo-log-likelihoods of the filled words, each of them masked in turn."""
        asked, words = [], []
        for draft in drafts:
            for gap, word in zip(draft.gaps, draft.words.tolist()):
                ids = draft.ids.copy()
                ids[gap] = self._predictor.mask
                asked.append(Asked(draft.text, ids, gap))
                words.append(word)
        logs = self._predictor.ask(asked, lambda row, chances: float(np.log(max(chances[words[row]], _TINY))))
        found = [0.0] * len(drafts)
        for each, log in zip(asked, logs):
            found[each.text] += log
        return found


class _Draft:
    """A text with its gaps as they are filled so far."""

    def __init__(self, text: int, ids: np.ndarray, gaps: list[int]):
        self.text, self.ids, self.gaps = text, ids, gaps
        self.guesses: list[list[Guess]] = [[] for _ in gaps]
        self.sure = np.zeros(len(gaps))
        self.words = np.zeros(len(gaps), np.int32)

    def copy(self) -> "_Draft":
        """The same draft, to go on with the other."""
        made = _Draft(self.text, self.ids.copy(), self.gaps)
        made.guesses, made.sure, made.words = [*self.guesses], self.sure.copy(), self.words.copy()
        return made

    def least_sure(self, round: int, rounds: int) -> list[int]:
        """Which gaps are predicted again in a round, counted from 0."""
        count = len(self.gaps) * (rounds - round) // rounds
        return np.argsort(self.sure, kind="stable")[:count].tolist()
