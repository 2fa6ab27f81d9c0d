"""The linear baseline that a network has to beat, on the same split."""

import re
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from zoo.data.datasets.tagging import TaggingDataset
from zoo.data.datasets.text_splits import TextDataset
from zoo.data.splits import Splits
from zoo.errors import BadInput
from zoo.metrics import entities, regression

# Of the inverse L2 strength; chosen on the validation split, as the network's settings are.
_STRENGTHS = (0.01, 0.1)
_TEXT_STRENGTHS = (1.0, 3.0, 10.0)


def linear_accuracy(data: Splits) -> float:
    """Accuracy on the test split of multinomial logistic regression fitted to the training split."""
    fitted = [_fitted(data, strength) for strength in _STRENGTHS]
    best = max(fitted, key=lambda model: model.score(_flat(data.validation["x"]), data.validation["y"]))
    return float(best.score(_flat(data.test["x"]), data.test["y"]))


def tfidf(reviews: TextDataset) -> dict[str, float]:
    """TF-IDF and logistic regression fitted to the training split; about a minute on IMDB.

    Returns:
        `test/baseline_accuracy` and `test/baseline_f1`: of class 1 where there are two, else the mean over classes.

    Raises:
        BadInput: there is no word in the training texts.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier

    train, validation, test = reviews.train, reviews.validation, reviews.test
    counter, counted = _counted(train.texts)
    models = [
        OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear")).fit(counted, train.labels)
        for strength in _TEXT_STRENGTHS
    ]
    watched = counter.transform(validation.texts)
    best = max(models, key=lambda model: model.score(watched, validation.labels))
    found = best.predict(counter.transform(test.texts))
    average = "binary" if len(reviews.classes) == 2 else "macro"
    return {
        "test/baseline_accuracy": float(np.mean(found == test.labels)),
        "test/baseline_f1": float(f1_score(test.labels, found, average=average, zero_division=0.0)),
    }


def ridge(reviews: TextDataset) -> dict[str, float]:
    """TF-IDF and ridge regression fitted to the training split's values.

    Returns:
        `test/baseline_mse`, `test/baseline_spearman` and so on, see `values.scores`.

    Raises:
        BadInput: there is no word in the training texts.
    """
    from sklearn.linear_model import Ridge

    train, validation, test = reviews.train, reviews.validation, reviews.test
    counter, counted = _counted(train.texts)
    models = [Ridge(alpha=1 / strength).fit(counted, train.labels) for strength in _TEXT_STRENGTHS]
    watched = counter.transform(validation.texts)
    best = max(models, key=lambda model: model.score(watched, validation.labels))
    found = regression.scores(best.predict(counter.transform(test.texts)), test.labels)
    return {f"test/baseline_{name}": value for name, value in found.items()}


def linear_probe(vectors: np.ndarray, labels: np.ndarray, learned: np.ndarray) -> float:
    """Accuracy of logistic regression on vectors of texts, fitted to some and judged on the others.

    Args:
        vectors: `[texts, width]`.
        labels: `[texts]`.
        learned: bool `[texts]`, which it learns from.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return float(model.fit(vectors[learned], labels[learned]).score(vectors[~learned], labels[~learned]))


def tags(found: TaggingDataset) -> dict[str, float]:
    """Logistic regression over each word, its neighbours, its ends and its kind of signs; each word by itself.

    Returns:
        `test/baseline_accuracy`, and of entities `test/baseline_f1` and so on, see `entities.scores`.
    """
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    hasher = FeatureHasher(2**18, input_type="string", alternate_sign=False, dtype=np.float32)
    label_of = {name: label for label, name in enumerate(found.tags)}
    learned = hasher.transform(_hints(found.train.words))
    labels = np.array([label_of[tag] for sentence in found.train.tags for tag in sentence])
    if len(set(labels.tolist())) == 1:
        named = [[found.tags[labels[0]]] * len(words) for words in found.test.words]
        return _tag_scores(found, named)
    # Averaged (Polyak), so that few passes are enough.
    model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=5, tol=None, average=True, random_state=0, n_jobs=-1)
    predicted = iter(model.fit(learned, labels).predict(hasher.transform(_hints(found.test.words))).tolist())
    named = [[found.tags[next(predicted)] for _ in words] for words in found.test.words]
    return _tag_scores(found, named)


def _tag_scores(found: TaggingDataset, named: list[list[str]]) -> dict[str, float]:
    scores = entities.scores(found.test.tags, named, found.scheme)
    kept = ("accuracy", "precision", "recall", "f1", "f1_macro")
    return {f"test/baseline_{name}": scores[name] for name in kept if name in scores}


def _hints(sentences: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """What may tell a word's tag, for each word of all sentences."""
    for words in sentences:
        around = ["<2", "<1", *words, ">1", ">2"]
        for place, word in enumerate(words, 2):
            near = [f"{shift:+d}={around[place + shift]}" for shift in (-2, -1, 0, 1, 2)]
            pairs = [f"-1,0={around[place - 1]} {word}", f"0,1={word} {around[place + 1]}"]
            ends = [f"{name}={part}" for name, part in (("s3", word[-3:]), ("s2", word[-2:]), ("p3", word[:3]))]
            signs = re.sub(r"(.)\1+", r"\1", "".join(_kind_of(sign) for sign in word))
            yield ["bias", f"lower={word.lower()}", f"signs={signs}", *near, *pairs, *ends]


def _kind_of(sign: str) -> str:
    return "A" if sign.isupper() else "a" if sign.islower() else "0" if sign.isdigit() else "x"


def _counted(texts: list[str]):
    """What counts words, and their counts."""
    counter = _counter(texts)
    try:
        return counter, counter.fit_transform(texts)
    except ValueError as error:
        raise BadInput(f"no baseline: the {len(texts)} training texts have no word in common ({error})") from None


def _counter(texts: list[str]):
    """Words and pairs of words; up to three characters in a row where words have no spaces between, as in Chinese."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    sample = "".join(texts[:: max(1, len(texts) // 1000)])
    # English has a space in six characters, Chinese one in some hundreds.
    spaced = sum(map(str.isspace, sample)) > 0.05 * len(sample)
    words = {"analyzer": "word", "token_pattern": r"\b\w+\b", "ngram_range": (1, 2)}
    characters = {"analyzer": "char", "ngram_range": (1, 3)}
    # What stands in one text only tells nothing of others, if there are many.
    fewest = 2 if len(texts) >= 100 else 1
    return TfidfVectorizer(sublinear_tf=True, min_df=fewest, dtype=np.float32, **(words if spaced else characters))


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
