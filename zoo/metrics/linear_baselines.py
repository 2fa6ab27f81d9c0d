"""Linear baselines on the same split as the network: logistic and ridge regression, TF-IDF, linear probes."""

import re
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from zoo.data.datasets.tagging import TaggingDataset
from zoo.data.datasets.text_splits import TextDataset
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput
from zoo.metrics import entities, regression
from zoo.metrics.logits import log_softmax

# Candidates for the inverse L2 strength; chosen on the validation split, as the network's hyperparameters are.
_STRENGTHS = (0.01, 0.1)
_START_STRENGTHS = (0.003, 0.03, 0.3)
# Logit of a class without examples.
_IMPROBABLE = -5.0
TEXT_STRENGTHS = (1.0, 3.0, 10.0)


def linear_predictions(data: Splits) -> np.ndarray:
    """Classes that logistic regression predicts for the test split, `[examples]`."""
    present = np.unique(data.train["y"])
    if len(present) == 1:
        return np.full(len(data.test["y"]), present[0])
    models = [_fitted(data, strength) for strength in _STRENGTHS]
    x, y, weights = _flat(data.validation["x"]), data.validation["y"], data.validation.get("weight")
    best = max(models, key=lambda model: model.score(x, y, weights))
    return best.predict(_flat(data.test["x"]))


def logistic_weights(train: Columns, validation: Columns, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of logistic regression on features of unit scale, of the strength with the smallest validation loss.

    Args:
        train: columns `x` `[examples, features]`, `y` and perhaps `weight`.
        validation: the same; its log loss chooses the strength.
        classes: number of classes; one without training examples is improbable.

    Returns:
        Kernel float32 `[features, classes]` and bias float32 `[classes]`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    kernel = np.zeros((train["x"].shape[1], classes), np.float32)
    bias = np.full(classes, _IMPROBABLE, np.float32)
    present = np.unique(train["y"])
    bias[present] = 0.0
    if len(present) < 2:
        return kernel, bias
    best = np.inf
    for strength in _START_STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=200)
            model.fit(train["x"], train["y"], sample_weight=train.get("weight"))
        coefficients, intercepts = model.coef_, model.intercept_
        if len(present) == 2:
            # scikit-learn has one logit for two classes.
            coefficients, intercepts = (np.concatenate([-each / 2, each / 2]) for each in (coefficients, intercepts))
        logits = np.full((len(validation["y"]), classes), _IMPROBABLE)
        logits[:, present] = validation["x"] @ coefficients.T + intercepts
        losses = -log_softmax(logits)[np.arange(len(logits)), validation["y"]]
        loss = float(np.average(losses, weights=validation.get("weight")))
        if loss < best:
            best = loss
            kernel[:, present], bias[present] = coefficients.T, intercepts
    return kernel, bias


def accuracy_lead(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """How much more accurate one model is than another on the same examples, with its 95 % interval.

    The interval is Wald's for matched proportions with half an example added to each of the four kinds of pairs
    (Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", 2005): it has a width
    even where both models answer alike.

    Args:
        one: whether each example is answered correctly, bool `[examples]`.
        other: the same of the other model.
    """
    wins, losses = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    total, a, b = len(one) + 2.0, wins + 0.5, losses + 0.5
    center, half = (a - b) / total, 1.96 * np.sqrt(a + b - (a - b) ** 2 / total) / total
    return (wins - losses) / len(one), float(max(-1.0, center - half)), float(min(1.0, center + half))


def tfidf(reviews: TextDataset) -> dict[str, float]:
    """TF-IDF and logistic regression fitted to the training split; about a minute on IMDB.

    Returns:
        See `text_scores`.

    Raises:
        BadInput: the training texts contain no words.
    """
    return text_scores(tfidf_predictions(reviews), reviews.test.labels, len(reviews.classes))


def text_scores(predicted: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, float]:
    """`test/baseline_accuracy` and `test/baseline_f1`: that of class 1 with two classes, else the mean over classes."""
    from sklearn.metrics import f1_score

    average = "binary" if classes == 2 else "macro"
    return {
        "test/baseline_accuracy": float(np.mean(predicted == labels)),
        "test/baseline_f1": float(f1_score(labels, predicted, average=average, zero_division=0.0)),
    }


def tfidf_predictions(reviews: TextDataset) -> np.ndarray:
    """Classes that TF-IDF with logistic regression predicts for the test split, int `[texts]`; errors as in `tfidf`."""
    import threadpoolctl
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    train, validation = reviews.train, reviews.validation
    vectorizer, features = _vectorized(train.texts)
    # Many threads on short vectors mostly wait for each other, up to seventy times longer where cores are shared.
    with threadpoolctl.threadpool_limits(1):
        models = [
            OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear")).fit(features, train.labels)
            for strength in TEXT_STRENGTHS
        ]
    validation_features = vectorizer.transform(validation.texts)
    best = max(models, key=lambda model: model.score(validation_features, validation.labels))
    return best.predict(vectorizer.transform(reviews.test.texts))


def vectorized(texts: TextDataset):
    """TF-IDF features of training, validation and test texts, sparse `[texts, features]` each; errors as in `tfidf`."""
    vectorizer, features = _vectorized(texts.train.texts)
    return features, vectorizer.transform(texts.validation.texts), vectorizer.transform(texts.test.texts)


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
    models = [Ridge(alpha=1 / strength).fit(features, train.labels) for strength in TEXT_STRENGTHS]
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
        weights = data.train.get("weight")
        return model.fit(_flat(data.train["x"]), data.train["y"], logisticregression__sample_weight=weights)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float32)
