"""Linear baselines on the same split as the network: logistic and ridge regression, TF-IDF, linear probes."""

import re
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from zoo.data.datasets.tagging import TaggingDataset
from zoo.data.datasets.text_splits import TextDataset
from zoo.data.splits import Splits
from zoo.errors import BadInput
from zoo.metrics import entities, regression

# Candidates for the inverse L2 strength; chosen on the validation split, as the network's hyperparameters are.
_STRENGTHS = (0.01, 0.1)
_TEXT_STRENGTHS = (1.0, 3.0, 10.0)


def linear_accuracy(data: Splits) -> float:
    """Test accuracy of multinomial logistic regression, fitted to the training split."""
    models = [_fitted(data, strength) for strength in _STRENGTHS]
    best = max(models, key=lambda model: model.score(_flat(data.validation["x"]), data.validation["y"]))
    return float(best.score(_flat(data.test["x"]), data.test["y"]))


def tfidf(reviews: TextDataset) -> dict[str, float]:
    """TF-IDF and logistic regression fitted to the training split; about a minute on IMDB.

    Returns:
        `test/baseline_accuracy` and `test/baseline_f1`: that of class 1 with two classes, else the mean over classes.

    Raises:
        BadInput: the training texts contain no words.
    """
    import threadpoolctl
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier

    train, validation, test = reviews.train, reviews.validation, reviews.test
    vectorizer, features = _vectorized(train.texts)
    # Many threads on short vectors mostly wait for each other, up to seventy times longer where cores are shared.
    with threadpoolctl.threadpool_limits(1):
        models = [
            OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear")).fit(features, train.labels)
            for strength in _TEXT_STRENGTHS
        ]
    validation_features = vectorizer.transform(validation.texts)
    best = max(models, key=lambda model: model.score(validation_features, validation.labels))
    predicted = best.predict(vectorizer.transform(test.texts))
    average = "binary" if len(reviews.classes) == 2 else "macro"
    return {
        "test/baseline_accuracy": float(np.mean(predicted == test.labels)),
        "test/baseline_f1": float(f1_score(test.labels, predicted, average=average, zero_division=0.0)),
    }


def ridge(reviews: TextDataset) -> dict[str, float]:
    """TF-IDF and ridge regression fitted to the training split's values.

    Returns:
        `test/baseline_mse`, `test/baseline_spearman` and so on, see `regression.scores`.

    Raises:
        BadInput: the training texts contain no words.
    """
    from sklearn.linear_model import Ridge

    train, validation, test = reviews.train, reviews.validation, reviews.test
    vectorizer, features = _vectorized(train.texts)
    models = [Ridge(alpha=1 / strength).fit(features, train.labels) for strength in _TEXT_STRENGTHS]
    validation_features = vectorizer.transform(validation.texts)
    best = max(models, key=lambda model: model.score(validation_features, validation.labels))
    scores = regression.scores(best.predict(vectorizer.transform(test.texts)), test.labels)
    return {f"test/baseline_{name}": value for name, value in scores.items()}


def linear_probe(vectors: np.ndarray, labels: np.ndarray, learned: np.ndarray) -> float:
    """Linear probe: accuracy of logistic regression on text vectors, fitted to some and evaluated on the others.

    Args:
        vectors: `[texts, width]`.
        labels: `[texts]`.
        learned: bool `[texts]`, true for training texts.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return float(model.fit(vectors[learned], labels[learned]).score(vectors[~learned], labels[~learned]))


def tags(dataset: TaggingDataset) -> dict[str, float]:
    """Logistic regression per word, on features of the word, its neighbours, its affixes and its word shape.

    Returns:
        `test/baseline_accuracy`, and for entities `test/baseline_f1` and so on, see `entities.scores`.
    """
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    hasher = FeatureHasher(2**18, input_type="string", alternate_sign=False, dtype=np.float32)
    label_of = {name: label for label, name in enumerate(dataset.tags)}
    features = hasher.transform(_word_features(dataset.train.words))
    labels = np.array([label_of[tag] for sentence in dataset.train.tags for tag in sentence])
    if len(set(labels.tolist())) == 1:
        predicted = [[dataset.tags[labels[0]]] * len(words) for words in dataset.test.words]
        return _tag_scores(dataset, predicted)
    # Averaged (Polyak), so that few passes are enough.
    model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=5, tol=None, average=True, random_state=0, n_jobs=-1)
    test_features = hasher.transform(_word_features(dataset.test.words))
    test_labels = iter(model.fit(features, labels).predict(test_features).tolist())
    predicted = [[dataset.tags[next(test_labels)] for _ in words] for words in dataset.test.words]
    return _tag_scores(dataset, predicted)


def _tag_scores(dataset: TaggingDataset, predicted: list[list[str]]) -> dict[str, float]:
    scores = entities.scores(dataset.test.tags, predicted, dataset.scheme)
    names = ("accuracy", "precision", "recall", "f1", "f1_macro")
    return {f"test/baseline_{name}": scores[name] for name in names if name in scores}


def _word_features(sentences: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Features of each word of all sentences."""
    for words in sentences:
        padded = ["<2", "<1", *words, ">1", ">2"]
        for position, word in enumerate(words, 2):
            window = [f"{shift:+d}={padded[position + shift]}" for shift in (-2, -1, 0, 1, 2)]
            bigrams = [f"-1,0={padded[position - 1]} {word}", f"0,1={word} {padded[position + 1]}"]
            affixes = [f"{name}={part}" for name, part in (("s3", word[-3:]), ("s2", word[-2:]), ("p3", word[:3]))]
            shape = re.sub(r"(.)\1+", r"\1", "".join(map(_character_class, word)))
            yield ["bias", f"lower={word.lower()}", f"signs={shape}", *window, *bigrams, *affixes]


def _character_class(character: str) -> str:
    return "A" if character.isupper() else "a" if character.islower() else "0" if character.isdigit() else "x"


def _vectorized(texts: list[str]):
    """A TF-IDF vectorizer fitted to texts, and their features."""
    vectorizer = _vectorizer(texts)
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError as error:
        raise BadInput(f"no baseline: the {len(texts)} training texts have no word in common ({error})") from None


def _vectorizer(texts: list[str]):
    """TF-IDF of words and word pairs; of 1 to 3 characters for languages without spaces, such as Chinese."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = {"analyzer": "word", "token_pattern": r"\b\w+\b", "ngram_range": (1, 2)}
    characters = {"analyzer": "char", "ngram_range": (1, 3)}
    # With many texts, terms of a single text do not generalise.
    min_df = 2 if len(texts) >= 100 else 1
    return TfidfVectorizer(
        sublinear_tf=True, min_df=min_df, dtype=np.float32, **(words if has_spaces(texts) else characters)
    )


def has_spaces(texts: Sequence[str]) -> bool:
    """Whether words are separated by spaces, as in English, and not as in Chinese; from a sample of the texts."""
    sample = "".join(texts[:: max(1, len(texts) // 1000)])
    # English has one space in six characters, Chinese one in hundreds.
    return sum(map(str.isspace, sample)) > 0.05 * len(sample)


def _fitted(data: Splits, strength: float):
    # Imported here: it costs seconds, and most runs have no baseline.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler, StandardScaler

    scaler = MaxAbsScaler() if data.scale else StandardScaler()
    model = make_pipeline(scaler, LogisticRegression(C=strength, max_iter=200))
    with warnings.catch_warnings():
        # 200 steps are enough for the accuracy to settle, if not for every coefficient.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(_flat(data.train["x"]), data.train["y"])


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float32)
