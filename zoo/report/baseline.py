"""The linear baseline that a network has to beat, on the same split."""

import warnings

import numpy as np

from zoo.data.reviews import Reviews
from zoo.data.splits import Splits
from zoo.errors import BadInput

# Of the inverse L2 strength; chosen on the validation split, as the network's settings are.
_STRENGTHS = (0.01, 0.1)
_TEXT_STRENGTHS = (1.0, 3.0, 10.0)


def linear_accuracy(data: Splits) -> float:
    """Accuracy on the test split of multinomial logistic regression fitted to the training split."""
    fitted = [_fitted(data, strength) for strength in _STRENGTHS]
    best = max(fitted, key=lambda model: model.score(_flat(data.validation["x"]), data.validation["y"]))
    return float(best.score(_flat(data.test["x"]), data.test["y"]))


def tfidf(reviews: Reviews) -> dict[str, float]:
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
    counter = _counter(train.texts)
    try:
        counted = counter.fit_transform(train.texts)
    except ValueError as error:
        raise BadInput(f"no baseline: the {len(train.texts)} training texts have no word in common ({error})") from None
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
