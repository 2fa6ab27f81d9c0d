"""LSTM text classifier, and the LSTM language model that it may start from."""

from typing import NamedTuple

import keras

from zoo.models.layers import Dropout
from zoo.models.lstm_layers import Guesses, Lengths, Lstm, Pool, TokenEmbedding, VariationalDropout
from zoo.models.ngram_logits import FirstTokens, NgramLogits, with_ngrams


class Network(NamedTuple):
    """A model, and a second model of the same layers with inner outputs.

    Attributes:
        model: from tokens int32 `[batch, time]`, padded with 0 at the end, to logits.
        inner: to the logits, those of the LSTM alone where a classifier has n-gram logits, too; the outputs of the last
            LSTM `[time, batch, units]`; and for a language model the hidden vectors before the output matrix,
            `[time, batch, width]`.
        words: the output matrix, `[vocabulary, width]`; None for a classifier.
    """

    model: keras.Model
    inner: keras.Model
    words: keras.Variable | None = None


# Layers of the task's head: a classifier takes all other weights from a language model.
HEAD = ("head", "pool", "narrow", "ngrams", "mixture")


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
    ngrams: NgramLogits | None = None,
    recurrent_length: int = 0,
) -> Network:
    """Embedding -> one or more LSTMs -> pooling -> Dense. By default 673,089 parameters.

    Args:
        vocabulary: number of ids, 0 for padding included.
        classes: number of classes; two have one logit, that of class 1, more have one each.
        width: embedding width.
        units: number of units of each LSTM and direction.
        layers: number of stacked LSTMs.
        bidirectional: whether each LSTM reads in both directions.
        pooling: one of `lstm_layers.POOLINGS`.
        dropout: rate of variational dropout between the LSTMs and of plain dropout before the last layer.
        input_dropout: rate of variational dropout on the embedding's output.
        embedding_dropout: fraction of the words that are dropped.
        weight_dropout: dropout rate of the recurrent matrices.
        implementation: one of `lstm_layers.IMPLEMENTATIONS`.
        ngrams: a layer whose logits are mixed with the LSTM's, see `with_ngrams`; None: none.
        recurrent_length: the LSTM reads the first so many tokens, the n-grams all of them; 0: both read all.

    Returns:
        Logits float32 `[batch, 1]` or `[batch, classes]`.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    read = FirstTokens(recurrent_length, name="first_tokens")(tokens) if recurrent_length else tokens
    lengths = Lengths(name="lengths")(read)
    noise = (dropout, input_dropout, embedding_dropout, weight_dropout)
    _, outputs = _encoder(read, lengths, vocabulary, width, units, layers, bidirectional, noise, implementation)
    pooled = Pool(pooling, bidirectional, name="pool")(outputs, lengths)
    pooled = Dropout(dropout, name="dropout")(pooled) if dropout else pooled
    # float32 under any precision policy: the loss needs the logits' full range.
    logits = keras.layers.Dense(1 if classes == 2 else classes, dtype="float32", name="head")(pooled)
    inner = keras.Model(tokens, [logits, outputs])
    if ngrams is not None:
        logits = with_ngrams(logits, ngrams(tokens))
    return Network(keras.Model(tokens, logits), inner)


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
    """Embedding -> one or more LSTMs -> next-token logits, `[time, batch, vocabulary]`.

    The arguments are those of `classifier`, with two differences. If `tied`, the output matrix is the embedding's;
    either way a Dense layer maps the outputs to the embedding's width. If `bidirectional`, each token of a whole text
    is predicted from either side, see `lstm_layers.Guesses` (two language models, as in ELMo: Peters et al., 2018,
    section 3.1); with one layer only, as a second one would see the tokens to predict through the first.

    Raises:
        ValueError: more than one bidirectional layer.
    """
    if bidirectional and layers > 1:
        raise ValueError(f"{layers} layers in both directions: the second would see the words it is to predict")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    lengths = Lengths(name="lengths")(tokens)
    noise = (dropout, input_dropout, embedding_dropout, weight_dropout)
    embedding, outputs = _encoder(
        tokens, lengths, vocabulary, width, units, layers, bidirectional, noise, implementation
    )
    guesses = Guesses(name="guesses")(outputs) if bidirectional else outputs
    top = VariationalDropout(dropout, name="dropout")(guesses) if dropout else guesses
    top = keras.layers.Dense(width, name="narrow")(top) if width != units else top
    output_layer = embedding if tied else TokenEmbedding(vocabulary, width, name="head")
    logits = output_layer(top, reverse=True)
    return Network(keras.Model(tokens, logits), keras.Model(tokens, [logits, outputs, top]), output_layer.embeddings)


def _encoder(tokens, lengths, vocabulary, width, units, layers, bidirectional, noise, implementation):
    """The embedding layer, and the last LSTM's outputs `[time, batch, units]`."""
    dropout, input_dropout, embedding_dropout, weight_dropout = noise
    embedding = TokenEmbedding(vocabulary, width, embedding_dropout, name="embedding")
    x = embedding(tokens)
    x = VariationalDropout(input_dropout, name="input_dropout")(x) if input_dropout else x
    for number in range(layers):
        x = VariationalDropout(dropout, name=f"dropout{number}")(x) if number and dropout else x
        x = Lstm(units, bidirectional, weight_dropout, implementation, name=f"lstm{number}")(x, lengths)
    return embedding, x
