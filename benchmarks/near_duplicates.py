"""Time and recall of near duplicates of texts (`zoo inspect`), with generated texts whose near duplicates are known.

    python -m benchmarks.near_duplicates
    python -m benchmarks.near_duplicates --texts=20000

Texts of 5 to 400 words, drawn by Zipf's law from 30,000; of 500 of them a copy in capitals with two words in a hundred
replaced stands at the end. Prints the time of `near_duplicates.groups` for all of them (processor time: other programs
do not count), and how many of the copies with a similarity of 0.8 or more it finds.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from zoo.data import near_duplicates

_WORDS, _COPIES = 30_000, 500


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the texts and prints what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    options = parser.parse_args(arguments)
    texts, sources = drawn(options.texts)
    began, processor = time.perf_counter(), time.process_time()
    groups = near_duplicates.groups(texts)
    seconds = time.process_time() - processor, time.perf_counter() - began
    copies = np.arange(options.texts, len(texts))
    alike = np.array([similarity(texts[one], texts[other]) for one, other in zip(sources, copies)]) >= 0.8
    found = groups[sources] == groups[copies]
    others = len(texts) - len(set(groups.tolist())) - int(found.sum())
    print(f"{len(texts):,} texts, {sum(map(len, texts)) / 1e6:.0f} million characters")
    print(f"{seconds[0]:.1f} s of processor time, {seconds[1]:.1f} s by the clock")
    print(f"{int((found & alike).sum())} of {int(alike.sum())} near duplicates found, {others} others")


def drawn(count: int) -> tuple[list[str], np.ndarray]:
    """The texts, near duplicates at the end, and of which texts these are."""
    draw = np.random.default_rng(0)
    names = np.array([f"w{number}" for number in range(_WORDS)])
    chances = 1.0 / np.arange(1, _WORDS + 1)
    lengths = draw.integers(5, 400, count)
    words = names[draw.choice(_WORDS, lengths.sum(), p=chances / chances.sum())]
    texts = [" ".join(part) for part in np.split(words, np.cumsum(lengths)[:-1])]
    sources = draw.choice(count, min(_COPIES, count), replace=False)
    for source in sources.tolist():
        copy = texts[source].split()
        for place in draw.integers(0, len(copy), max(1, len(copy) // 50)).tolist():
            copy[place] = "X"
        texts.append(" ".join(copy).upper())
    return texts, sources


def similarity(one: str, other: str) -> float:
    """The Jaccard similarity of two texts, by Python's sets."""
    plain = (" ".join(text.casefold().split()) for text in (one, other))
    a, b = ({text[place : place + 5] for place in range(max(len(text) - 4, 1))} for text in plain)
    return len(a & b) / len(a | b)


if __name__ == "__main__":
    main()
