"""A trained language model, loaded from its run's folder, that scores and generates texts."""

import math
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
        model: maps tokens int32 `[batch, time]` to logits of the next tokens.
        tokenizer: the tokenizer that the model was trained with.
        context: most tokens that the model reads at once; None for an LSTM, which carries its state on.
        by_line: whether texts are split at line ends before tokenization, as in training.
        text_column: name of the text column in files with several columns.
    """

    def __init__(
        self, model: keras.Model, tokenizer: tokenizer.Tokenizer, by_line: bool = True, text_column: str = "text"
    ):
        self.model, self.tokenizer, self.by_line, self.text_column = model, tokenizer, by_line, text_column
        network = kv_cache.network(model)
        self.context = network.context
        self._scorer = perplexity.Scorer(network)
        self._decoders = {cache: IncrementalDecoder(network, cache) for cache in (True, False)}
        self._pieces = tokenizer.bytes_of_ids() if tokenizer.is_exact() else None

    def ids(self, text: str, least: int = 1) -> np.ndarray:
        """The tokens of a text, int32 `[tokens]`.

        Args:
            text: a Unicode text.
            least: fewest tokens allowed.

        Raises:
            BadInput: the text has fewer tokens.
        """
        if not isinstance(text, str):
            raise BadInput(f"a text is {text!r:.60}: expected a string")
        ids = running_text.stored(text, self.tokenizer, None) if self.by_line else self.tokenizer.encode([text]).ids
        if len(ids) < least:
            expected = "one token or more, as the model continues a prompt"
            expected = expected if least == 1 else f"{least} tokens or more, as the first one is not predicted"
            raise BadInput(f"the text {text!r:.60} has {len(ids)} tokens: expected {expected}")
        return ids.astype(np.int32)

    def score(self, texts: Sequence[str], stride: int | None = None) -> list[TextScore]:
        """Scores texts: log P of each token but the first, from the tokens before it that fit into the context.

        The first token is not predicted, as the models have no start token. Where several sequences of word pieces
        spell a text, the tokenizer's own is scored.

        Each text has a probability: characters that a tokenizer of characters does not know are spelled in bytes, as in
        training with --byte_fallback. Other models have an unknown token instead; to its probability comes that of the
        character's bytes, 1 / 256 each (`TextScore.unknown` counts such tokens).

        Args:
            texts: any number of texts, of two tokens or more each.
            stride: tokens from the start of one window to the next where a text is longer than the context; each token
                is predicted once, from at least `context - stride` tokens. 1 is the most exact and the slowest; the
                context itself is the stride of evaluation in training. None is half the context.

        Raises:
            BadInput: a text is too short or cannot be encoded, or the stride is out of range.
            NonFinite: the model's output is not finite.
        """
        if isinstance(texts, str):
            raise BadInput(f"texts are {texts!r:.60}: expected a list of strings")
        stride = self.stride(stride)
        ids = [self.ids(text, least=2) for text in texts]
        values = self._scorer.log_probabilities(ids, stride or 0)
        return [self.scored(*one) for one in zip(texts, ids, values)]

    def scored(self, text: str, ids: np.ndarray, values: np.ndarray) -> TextScore:
        """The score of a text from its `ids` `[tokens]` and log P `[tokens - 1]` of all tokens but the first."""
        lost = self._unknown(ids)
        if self._pieces is None:
            return TextScore(tuple(self.tokenizer.token(id) for id in ids), values, None, len(lost))
        pieces, values = [self._pieces[id] for id in ids], values.copy()
        for place in lost:
            # Only a tokenizer of characters has an unknown token here, so a token's index is its character's.
            pieces[place] = text[place].encode()
            if place:
                values[place - 1] -= len(pieces[place]) * math.log(256)
        tokens = tuple(piece.decode("utf8", "backslashreplace") for piece in pieces)
        return TextScore(tokens, values, sum(map(len, pieces[1:])), len(lost))

    def stride(self, requested: int | None = None) -> int | None:
        """The stride of scoring: the requested one, or half the context; None for an LSTM.

        Raises:
            BadInput: the stride is out of range, or the model is an LSTM.
        """
        if self.context is None:
            if requested is not None:
                raise BadInput(
                    f"--stride is {requested}: an LSTM reads a text whole, without windows; leave --stride out"
                )
            return None
        if requested is not None and not (type(requested) is int and 1 <= requested <= self.context):
            raise BadInput(f"--stride is {requested}: expected 1 to the model's context, {self.context}")
        return max(self.context // 2, 1) if requested is None else requested

    def generate(self, prompt: str, *, cache: bool = True, **settings: Any) -> list[Generated]:
        """Generates continuations of a prompt.

        Args:
            prompt: text of one token or more; of one longer than the context, only the last half of a context is read.
            cache: whether to use a KV cache; the texts are the same without it, but take longer.
            settings: fields of `SamplingConfig`, such as `tokens=100, temperature=0.8, seed=1`.

        Returns:
            `count` texts; with beams the best first.

        Raises:
            BadInput: the prompt has no token or cannot be encoded, a setting is out of range, or the tokenizer cannot
                decode texts.
            NonFinite: the model's output is not finite.
        """
        chosen = SamplingConfig(**settings)
        if chosen.beams:
            return generation.beam_search(self._decoders[cache], *self._encoded(prompt), chosen)
        return [generation.finish(self.stream(prompt, chosen, number, cache)) for number in range(chosen.count)]

    def stream(
        self, prompt: str, settings: SamplingConfig, number: int = 0, cache: bool = True
    ) -> Generator[str, None, Generated]:
        """Streams text `number` of `generate` in whole characters; the generator returns the `Generated` text."""
        return generation.sample(self._decoders[cache], *self._encoded(prompt), settings, number)

    def _encoded(self, prompt: str) -> tuple[np.ndarray, list[bytes]]:
        if self._pieces is None:
            raise BadInput(
                "the model's tokenizer changes texts (lower case, spaces), so tokens cannot be decoded to text: "
                f"expected a model with one of {', '.join(tokenizer.EXACT)}, as experiments.language_model trains"
            )
        ids = self.ids(prompt)
        lost = self._unknown(ids)
        if len(lost):
            others = len({prompt[index] for index in lost}) - 1
            more = f" (and {others} more)" if others else ""
            raise BadInput(
                f"the prompt has {prompt[lost[0]]!r} at character {lost[0]}{more}, which is not in the vocabulary of "
                "this run, so the model cannot read it: remove it, or train again (--byte_fallback spells it in bytes)"
            )
        return ids, self._pieces

    def _unknown(self, ids: np.ndarray) -> np.ndarray:
        """Indices of the tokens that are not in the vocabulary."""
        unknown = self.tokenizer.unknown()
        return np.flatnonzero(ids == unknown) if unknown is not None else np.zeros(0, np.int64)


def load(workdir: str | Path) -> LanguageModel:
    """Loads the language model of a run.

    Args:
        workdir: folder of a run of `experiments.language_model`, or of `experiments.lstm_sentiment
            --objective=language_model`, whose model scores texts but cannot generate, as its tokenizer changes texts.

    Raises:
        BadInput: the model is missing, cannot be read, or is not a language model.
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
    column = text_preprocessing.columns_of_run(workdir)[0]
    try:
        loaded = LanguageModel(model, words, by_line=info.context is not None, text_column=column)
    except ValueError as error:
        raise BadInput(
            f"{workdir / folders.MODEL} is not a language model ({error}); restore it or train again"
        ) from None
    rows = model.output_shape[-1]
    if loaded.context and info.context not in (None, loaded.context):
        raise BadInput(
            f"{workdir}: {folders.ABOUT} has a context of {info.context}, the model one of {loaded.context}; "
            "expected the two files of one run"
        )
    if words.vocabulary_size > rows:
        raise BadInput(
            f"{workdir}: {folders.TOKENIZER} has {words.vocabulary_size} ids, the model reads {rows}; expected the two "
            "files of one run"
        )
    return loaded
