"""Paired comparison of finished runs on one test split, for `zoo compare`.

Single runs are compared by their test examples, folders of `--seeds` by their seeds. Both say something else: the first
whether two trained models differ beyond the draw of the test examples, the second whether two ways of training differ
beyond the order of the examples, the initial weights and the noise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.metrics.confusion import aligned
from zoo.studies import seed_comparison
from zoo.studies.pairs import Comparison


def compare(runs: Mapping[str, Path], metrics: Sequence[str] = ()) -> Comparison:
    """Compares runs.

    Args:
        runs: folders by the names that the runs are called: of finished runs, or all of `--seeds`.
        metrics: names of the metrics; empty: the usual ones of the task.

    Raises:
        BadInput: the runs are of both kinds, not finished, or tested on other data.
    """
    several = [(path / folders.RUNS).is_file() for path in runs.values()]
    if any(several) and not all(several):
        single = next(name for name, is_several in zip(runs, several) if not is_several)
        raise BadInput(f"{single} is a single run and others are of --seeds: expected runs of one kind")
    if all(several):
        return seed_comparison.compare(runs, metrics)
    # Imported here: it needs TensorFlow, seeds do not.
    from zoo.studies import example_comparison

    return example_comparison.compare(runs, metrics)


def report(comparison: Comparison) -> str:
    """The comparison as two tables for the terminal: metrics of each run, and differences of all pairs."""
    names = list(next(iter(comparison.metrics.values())))
    rows = [("metric", *names)]
    for metric, values in comparison.metrics.items():
        rows.append((metric, *(f"{each.value:.4f} ({each.low:.4f} .. {each.high:.4f})" for each in values.values())))
    several = len(names) > 2
    head = ("difference", "metric", "value", "95 % interval", "p", *(("p (Holm)",) if several else ()))
    differences = [head]
    for pair in comparison.pairs:
        value, low, high, p = pair.difference
        ends = f"{low:+.4f} .. {high:+.4f}"
        row = (f"{pair.run} - {pair.other}", pair.metric, f"{value:+.4f}", ends, shown_p(p))
        differences.append((*row, *((shown_p(pair.adjusted),) if several else ())))
    parts = [f"over {comparison.unit}, with 95 % intervals", aligned(rows), "", aligned(differences)]
    return "\n".join([*parts, *comparison.notes])


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it."""
    return {
        "unit": comparison.unit,
        "metrics": {
            metric: {name: value._asdict() for name, value in values.items()}
            for metric, values in comparison.metrics.items()
        },
        "differences": [
            {"run": pair.run, "other": pair.other, "metric": pair.metric}
            | pair.difference._asdict()
            | {"p_holm": pair.adjusted}
            for pair in comparison.pairs
        ],
        "notes": comparison.notes,
    }


def shown_p(p: float) -> str:
    """A p-value as it is printed: three digits, small ones as a bound."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
