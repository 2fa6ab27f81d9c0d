"""LSTM networks over texts: a classifier, and the language model that it may start from."""

from typing import NamedTuple

import keras

from zoo.models.layers import Dropout
from zoo.models.lstm_layers import Guesses, Lengths, Lstm, Pool, TokenEmbedding, VariationalDropout


class Network(NamedTuple):
    """A model and a second view of it.

    Attributes:
        model: from tokens int32 `[batch, time]`, padded with 0 at the end, to logits.
        inner: the same layers, to the logits, the outputs of the last LSTM `[time, batch, units]`, and for a language
            model what is multiplied with the matrix of the words, `[time, batch, width]`.
        words: that matrix, `[vocabulary, width]`; None for a classifier.
    """

    model: keras.Model
    inner: keras.Model
    words: keras.Variable | None = None


# Layers that belong to the task: what is learned as a language model serves a classifier but for these.
HEAD = ("head", "pool", "narrow")


def classifier(
    vocabulary: int = 10_000,
    classes: int = 2,
    *,
    width: int = 64,
    units: int = 64,
    layers: int = 1,
    bidirectional: bool = False,
    pooling: str = "last",
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    weight_dropout: float = 0.0,
    implementation: str = "scan",
) -> Network:
    """Embedding -> LSTM, one or more -> pooling -> Dense. By default 673,089 parameters.

    Args:
        vocabulary: number of ids, 0 for padding included.
        classes: two give one logit, that of class 1; more give one each.
        width: of the embedding.
        units: of each LSTM and direction.
        layers: LSTMs one upon the other.
        bidirectional: whether each reads in both directions.
        pooling: one of `recurrent.POOLINGS`.
        dropout: variational between the LSTMs, plain before the last layer.
        input_dropout: variational, on the embedding's output.
        embedding_dropout: share of words left out.
        weight_dropout: on the recurrent matrices.
        implementation: one of `recurrent.IMPLEMENTATIONS`.

    Returns:
        Logits float32 `[batch, 1]` or `[batch, classes]`.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    lengths = Lengths(name="lengths")(tokens)
    noise = (dropout, input_dropout, embedding_dropout, weight_dropout)
    _, outputs = _reader(tokens, lengths, vocabulary, width, units, layers, bidirectional, noise, implementation)
    pooled = Pool(pooling, bidirectional, name="pool")(outputs, lengths)
    pooled = Dropout(dropout, name="dropout")(pooled) if dropout else pooled
    # float32 under any precision policy: the loss needs the logits' full range.
    logits = keras.layers.Dense(1 if classes == 2 else classes, dtype="float32", name="head")(pooled)
    return Network(keras.Model(tokens, logits), keras.Model(tokens, [logits, outputs]))


def language_model(
    vocabulary: int = 10_000,
    *,
    width: int = 64,
    units: int = 64,
    layers: int = 1,
    bidirectional: bool = False,
    tied: bool = True,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    weight_dropout: float = 0.0,
    implementation: str = "scan",
) -> Network:
    """Embedding -> LSTM, one or more -> logits of the next token, `[time, batch, vocabulary]`.

    Args: as of `classifier`; `tied` uses the embedding's matrix for the logits, else one of its own; a Dense layer
        brings the outputs to its width. `bidirectional` reads whole texts and guesses each token from either side, see
        `recurrent.Guesses` (two language models, as in ELMo: Peters et al., 2018, section 3.1); one layer only, as a
        second one would see through the first what it is to guess.

    Raises:
        ValueError: more than one layer in both directions.
    """
    if bidirectional and layers > 1:
        raise ValueError(f"{layers} layers in both directions: the second would see the words it is to guess")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    lengths = Lengths(name="lengths")(tokens)
    noise = (dropout, input_dropout, embedding_dropout, weight_dropout)
    embedding, outputs = _reader(
        tokens, lengths, vocabulary, width, units, layers, bidirectional, noise, implementation
    )
    guesses = Guesses(name="guesses")(outputs) if bidirectional else outputs
    top = VariationalDropout(dropout, name="dropout")(guesses) if dropout else guesses
    top = keras.layers.Dense(width, name="narrow")(top) if width != units else top
    # Not tied, it is another matrix of the same kind.
    last = embedding if tied else TokenEmbedding(vocabulary, width, name="head")
    logits = last(top, reverse=True)
    return Network(keras.Model(tokens, logits), keras.Model(tokens, [logits, outputs, top]), last.embeddings)


def _reader(tokens, lengths, vocabulary, width, units, layers, bidirectional, noise, implementation):
    """What both have in common: the embedding layer, and the last LSTM's outputs."""
    dropout, input_dropout, embedding_dropout, weight_dropout = noise
    embedding = TokenEmbedding(vocabulary, width, embedding_dropout, name="embedding")
    x = embedding(tokens)
    x = VariationalDropout(input_dropout, name="input_dropout")(x) if input_dropout else x
    for number in range(layers):
        x = VariationalDropout(dropout, name=f"dropout{number}")(x) if number and dropout else x
        x = Lstm(units, bidirectional, weight_dropout, implementation, name=f"lstm{number}")(x, lengths)
    return embedding, x
