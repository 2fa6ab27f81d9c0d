"""A trained language model, loaded from the folder of its run: how probable are texts, and how may one go on?"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo import files
from zoo import workdir as folders
from zoo.data.datasets import running_text
from zoo.data.text import tokenizer
from zoo.errors import BadInput
from zoo.model_info import missing_fields, read_model_info
from zoo.models import kv_cache
from zoo.predict.language_models import generation, perplexity
from zoo.predict.language_models.generation import Generated
from zoo.predict.language_models.incremental_decoding import IncrementalDecoder
from zoo.predict.language_models.perplexity import TextScore
from zoo.predict.language_models.sampling import SamplingConfig
from zoo.predict.predictors import loading, text_preprocessing


class LanguageModel:
    """A language model with its tokenizer.

    Attributes:
        model: from tokens int32 `[batch, time]` to logits of the next ones.
        tokenizer: that it was trained with.
        context: most tokens that it reads at once; None for an LSTM, which carries its state on.
        by_line: whether its texts are split at the ends of lines before the tokenizer sees them, as in its training.
        text_column: where a file of several columns has its texts.
    """

    def __init__(
        self, model: keras.Model, tokenizer: tokenizer.Tokenizer, by_line: bool = True, text_column: str = "text"
    ):
        self.model, self.tokenizer, self.by_line, self.text_column = model, tokenizer, by_line, text_column
        network = kv_cache.network(model)
        self.context = network.context
        self._scorer = perplexity.Scorer(network)
        self._readers = {cache: IncrementalDecoder(network, cache) for cache in (True, False)}
        self._pieces = tokenizer.bytes_of_ids() if tokenizer.is_exact() else None

    def ids(self, text: str, least: int = 1) -> np.ndarray:
        """The tokens of a text, int32 `[tokens]`.

        Args:
            text: Unicode.
            least: tokens that it must have.

        Raises:
            BadInput: it has fewer, or characters that the tokenizer would lose.
        """
        if not isinstance(text, str):
            raise BadInput(f"a text is {text!r:.60}: expected a string")
        ids = running_text.stored(text, self.tokenizer, None) if self.by_line else self.tokenizer.encode([text]).ids
        if self._pieces is not None:
            self._check_known(text, ids)
        if len(ids) < least:
            wanted = "one token or more, as a model begins with what it is given"
            wanted = wanted if least == 1 else f"{least} tokens or more, as the first is given and the others predicted"
            raise BadInput(f"the text {text!r:.60} has {len(ids)} tokens: expected {wanted}")
        return ids.astype(np.int32)

    def score(self, texts: Sequence[str], stride: int | None = None) -> list[TextScore]:
        """How probable texts are: log P of each token but the first, given all before it that there is room for.

        The first token is given, not predicted: the models have no token for the beginning of a text. Of pieces of
        words there may be several ways to write a text; it is the tokenizer's own that is scored.

        Args:
            texts: any number, of two tokens or more each.
            stride: a text longer than the context is read in windows, each this many tokens further than the one
                before; each token is predicted once, with at least `context - stride` tokens before it. 1 is the most
                exact and the slowest, the context what the evaluation in training does. None is half the context.

        Raises:
            BadInput: a text is too short or not to be encoded, or the stride is out of range.
            NonFinite: the model's output is.
        """
        if isinstance(texts, str):
            raise BadInput(f"texts are {texts!r:.60}: expected a list of strings")
        stride = self.stride(stride)
        ids = [self.ids(text, least=2) for text in texts]
        return [self.scored(one, found) for one, found in zip(ids, self._scorer.log_probabilities(ids, stride or 0))]

    def scored(self, ids: np.ndarray, values: np.ndarray) -> TextScore:
        """What is known of tokens `[tokens]` and log-probabilities `[tokens - 1]` of all but the first."""
        unknown = self.tokenizer.unknown()
        lost = int(np.count_nonzero(ids == unknown)) if unknown is not None else 0
        if self._pieces is None:
            return TextScore(tuple(self.tokenizer.token(id) for id in ids), values, None, lost)
        pieces = [self._pieces[id] for id in ids]
        tokens = tuple(piece.decode("utf8", "backslashreplace") for piece in pieces)
        return TextScore(tokens, values, sum(map(len, pieces[1:])), lost)

    def stride(self, asked: int | None = None) -> int | None:
        """The stride that texts are scored with; None for an LSTM.

        Raises:
            BadInput: the one that is asked for is out of range, or the model is an LSTM.
        """
        if self.context is None:
            if asked is not None:
                raise BadInput(f"--stride is {asked}: an LSTM reads a text whole, without windows; leave --stride out")
            return None
        if asked is not None and not (type(asked) is int and 1 <= asked <= self.context):
            raise BadInput(f"--stride is {asked}: expected 1 to the model's context, {self.context}")
        return max(self.context // 2, 1) if asked is None else asked

    def generate(self, prompt: str, *, cache: bool = True, **settings: Any) -> list[Generated]:
        """What may follow a prompt.

        Args:
            prompt: of one token or more. Of one longer than the context the last half of a context is read.
            cache: whether to keep keys and values of the tokens before; the text is the same without, only later.
            settings: of `decoding.Settings`, such as `tokens=100, temperature=0.8, seed=1`.

        Returns:
            `count` texts; with beams the best first.

        Raises:
            BadInput: the prompt has no token or cannot be encoded, a setting is out of range, or the tokenizer cannot
                write texts.
            NonFinite: the model's output is.
        """
        chosen = SamplingConfig(**settings)
        if chosen.beams:
            return generation.searched(self._readers[cache], *self._begun(prompt), chosen)
        return [generation.whole(self.stream(prompt, chosen, number, cache)) for number in range(chosen.count)]

    def stream(
        self, prompt: str, settings: SamplingConfig, number: int = 0, cache: bool = True
    ) -> Generator[str, None, Generated]:
        """Text `number` of `generate` as it grows, whole characters at a time; the generator returns the whole."""
        return generation.sampled(self._readers[cache], *self._begun(prompt), settings, number)

    def _begun(self, prompt: str) -> tuple[np.ndarray, list[bytes]]:
        if self._pieces is None:
            raise BadInput(
                "the model's tokenizer changes texts (lower case, spaces), so no text comes back from its tokens: "
                f"expected a model with one of {', '.join(tokenizer.EXACT)}, as experiments.language_model trains"
            )
        return self.ids(prompt), self._pieces

    def _check_known(self, text: str, ids: np.ndarray) -> None:
        lost = np.flatnonzero(ids == self.tokenizer.unknown()) if self.tokenizer.unknown() is not None else []
        if len(lost):
            # Only where each character is a token can one be unknown.
            others = len({text[place] for place in lost}) - 1
            more = f" (and {others} more)" if others else ""
            raise BadInput(
                f"the text has {text[lost[0]]!r} at character {lost[0]}{more}, which the training text has not: leave "
                "it out, or train with --tokenizer=byte"
            )


def load(workdir: str | Path) -> LanguageModel:
    """Loads the language model that a run left in its folder.

    Args:
        workdir: of `experiments.language_model`, or of `experiments.lstm_sentiment --objective=language_model`, whose
            model scores texts but cannot write them, as its tokenizer changes them.

    Raises:
        BadInput: there is no model, it cannot be read, or it is no language model.
    """
    workdir = files.absolute(workdir)
    info = read_model_info(workdir)
    if info.task is None:
        raise missing_fields(workdir, "its task")
    if info.task != "language_model":
        raise BadInput(
            f"{workdir} holds a model for {info.task}, expected a language model; use zoo predict for this one"
        )
    if info.bidirectional:
        raise BadInput(
            f"{workdir} holds two language models, one in each direction, to start others from; expected one that "
            "reads forwards: train without --bidirectional"
        )
    model = loading.read_model(workdir / folders.MODEL)
    words = tokenizer.load(workdir / folders.TOKENIZER)
    try:
        found = LanguageModel(
            model, words, by_line=info.context is not None, text_column=text_preprocessing.columns_of_run(workdir)[0]
        )
    except ValueError as error:
        raise BadInput(f"{workdir / folders.MODEL} is no language model ({error}); restore it or train again") from None
    rows = model.output_shape[-1]
    if found.context and info.context not in (None, found.context):
        raise BadInput(
            f"{workdir}: {folders.ABOUT} has a context of {info.context}, the model one of {found.context}; "
            "expected the two files of one run"
        )
    if words.vocabulary_size > rows:
        raise BadInput(
            f"{workdir}: {folders.TOKENIZER} has {words.vocabulary_size} ids, the model reads {rows}; expected the two "
            "files of one run"
        )
    return found
