"""Mask-Predict: fills the gaps of a text in rounds, so that each word may depend on the others.

Ghazvininejad et al., "Mask-predict: parallel decoding of conditional masked language models", 2019, section 3: all gaps
are filled at once, then in each round the least confident words are masked again and predicted from the others; fewer
in each round, linearly.

The words of all rounds are kept only if they make the text no less probable than those of one round, by the
pseudo-log-likelihood: the sum of log P of each filled word given everything else (Salazar et al., "Masked language
model scoring", 2020, section 2).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.predict.predictors.fill_mask import Asked, FillMask, Guess

# A float32 probability may be 0, whose logarithm is not finite.
_TINY = 1e-45


class Filled(NamedTuple):
    """A text's gaps after some rounds.

    Attributes:
        gaps: most probable words of each gap, the best first, from the round that filled it last.
        kept: whether the words are those of all rounds; else of one.
        before: pseudo-log-likelihood of the best words of one round, in nats.
        after: pseudo-log-likelihood of the best words of all rounds, in nats.
    """

    gaps: list[list[Guess]]
    kept: bool
    before: float
    after: float


class MaskPredict:
    """Fills the gaps of texts in rounds; replaces a `FillMask` on the command line.

    Args:
        predictor: predictor of a masked language model.
        rounds: 1 or more; 1 gives the predictor's own words. The paper uses 4 and 10.
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
        """The words of all rounds, or of one where these are more probable; see `FillMask.fill`."""
        drafts = [_Draft(text, ids, self._predictor.gaps(ids)) for text, ids in enumerate(self._predictor.ids(texts))]
        self._fill(drafts, [range(len(draft.gaps)) for draft in drafts], top)
        first = [draft.copy() for draft in drafts]
        for number in range(1, self.rounds):
            self._fill(drafts, [draft.least_confident(number, self.rounds) for draft in drafts], top)
        before, after = self._likelihood(first), self._likelihood(drafts)
        filled = []
        for one_round, all_rounds, was, now in zip(first, drafts, before, after):
            kept = now >= was
            filled.append(Filled((all_rounds if kept else one_round).guesses, kept, was, now))
        return filled

    def _fill(self, drafts: Sequence["_Draft"], chosen: Sequence[Sequence[int]], top: int) -> None:
        """Predicts the chosen gaps of each draft, all of them masked."""
        asked, owners = [], []
        for draft, numbers in zip(drafts, chosen):
            ids = draft.ids.copy()
            ids[[draft.gaps[number] for number in numbers]] = self._predictor.mask
            asked += [Asked(draft.text, ids, draft.gaps[number]) for number in numbers]
            owners += [(draft, number) for number in numbers]

        def read(row: int, probabilities: np.ndarray) -> None:
            draft, number = owners[row]
            draft.guesses[number] = self._predictor.best(probabilities, top)
            draft.confidence[number] = probabilities.max()
            draft.words[number] = int(probabilities.argmax())

        self._predictor.ask(asked, read)
        for draft in drafts:
            draft.ids[draft.gaps] = draft.words

    def _likelihood(self, drafts: Sequence["_Draft"]) -> list[float]:
        """Pseudo-log-likelihood of each draft's filled words, each of them masked in turn."""
        asked, words = [], []
        for draft in drafts:
            for gap, word in zip(draft.gaps, draft.words.tolist()):
                ids = draft.ids.copy()
                ids[gap] = self._predictor.mask
                asked.append(Asked(draft.text, ids, gap))
                words.append(word)
        logs = self._predictor.ask(asked, lambda row, each: float(np.log(max(each[words[row]], _TINY))))
        sums = [0.0] * len(drafts)
        for each, log in zip(asked, logs):
            sums[each.text] += log
        return sums


class _Draft:
    """A text with the current words of its gaps."""

    def __init__(self, text: int, ids: np.ndarray, gaps: list[int]):
        self.text, self.ids, self.gaps = text, ids, gaps
        self.guesses: list[list[Guess]] = [[] for _ in gaps]
        self.confidence = np.zeros(len(gaps))
        self.words = np.zeros(len(gaps), np.int32)

    def copy(self) -> "_Draft":
        """An independent copy."""
        copy = _Draft(self.text, self.ids.copy(), self.gaps)
        copy.guesses, copy.confidence, copy.words = [*self.guesses], self.confidence.copy(), self.words.copy()
        return copy

    def least_confident(self, round: int, rounds: int) -> list[int]:
        """Indices of the gaps to predict again in a round, counted from 0."""
        count = len(self.gaps) * (rounds - round) // rounds
        return np.argsort(self.confidence, kind="stable")[:count].tolist()
