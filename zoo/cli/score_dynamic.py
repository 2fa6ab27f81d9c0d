"""`zoo score --dynamic`: dynamic evaluation, perplexity under a model that learns from the text it scores."""

import argparse
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli.parser import fail, positive
from zoo.errors import BadInput, ZooError

if TYPE_CHECKING:
    from zoo.predict.language_models.dynamic_evaluation import DynamicConfig, Evaluated
    from zoo.predict.language_models.language_model import LanguageModel
    from zoo.predict.language_models.perplexity import TextScore

# Segments of the training text whose gradients are measured: enough for the first digit of a mean square.
_MEASURED = 200
_WAYS = ("static", "dynamic", "retrieved", "mixed")
# Options of dynamic evaluation only, by their names in `DynamicConfig`.
_OPTIONS = ("segment", "learning_rate", "optimizer", "decay", "steps", "clip_norm", "patience", "longest_context")


def add(verb: argparse.ArgumentParser) -> None:
    """The options of dynamic evaluation."""
    group = verb.add_argument_group(
        "learning from the text (dynamic evaluation, Krause et al., 2018)",
        "A segment is scored, then a copy of the model learns from it, then the next is scored. Earlier occurrences of "
        "each context are looked up in the text so far, and in --neighbours. The answer mixes the probabilities of the "
        "model, the copy and these: its loss for the whole text exceeds the model's own by at most log 2 nats.",
    )
    group.add_argument(
        "--dynamic",
        action="store_true",
        help="learn from each segment; each .txt is one text and starts from the run's model",
    )
    group.add_argument("--segment", metavar="N", type=positive, help="tokens of a segment (default: 64)")
    group.add_argument(
        "--learning_rate",
        metavar="R",
        type=float,
        help="of the gradient steps; 0: no learning (default: depends on the network, see dynamic_evaluation.py)",
    )
    group.add_argument(
        "--optimizer",
        metavar="NAME",
        help="sgd (default), or rms: gradients are divided by their root mean square on the run's training text",
    )
    group.add_argument(
        "--decay", metavar="D", type=float, help="share of the way back to the run's weights in each step (default: 0)"
    )
    group.add_argument("--steps", metavar="N", type=int, help="gradient steps on each segment (default: 1)")
    group.add_argument(
        "--clip_norm", metavar="C", type=float, help="largest norm of the gradient; 0: no clipping (default: 1)"
    )
    group.add_argument(
        "--patience",
        metavar="N",
        type=int,
        help="where the copy was worse over the last N segments, it starts from the run's model again (default: 0, "
        "never)",
    )
    group.add_argument(
        "--neighbours",
        metavar="FILE",
        action="append",
        default=[],
        help="a .txt of text like the one to score, in which its contexts are looked up; may be repeated",
    )
    group.add_argument(
        "--longest_context",
        metavar="N",
        type=int,
        help="tokens of the longest context that is looked up; 0: none (default: 16, for phrases that repeat)",
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuses combinations of flags.

    Raises:
        BadInput: an option of dynamic evaluation without --dynamic, a file that is not a .txt with it, or neighbours
            that are not looked up.
    """
    options = [name for name in _OPTIONS if getattr(arguments, name) is not None]
    options += ["neighbours"] if arguments.neighbours else []
    if not arguments.dynamic and options:
        raise BadInput(f"--{options[0]} is for learning from the text: add --dynamic")
    if arguments.dynamic:
        wrong = [name for name in arguments.files if not name.endswith(".txt")]
        if wrong:
            raise BadInput(f"{wrong[0]}: --dynamic learns from a text in its order; expected a .txt, or --text")
    wrong = [name for name in arguments.neighbours if not name.endswith(".txt")]
    if wrong:
        raise BadInput(f"--neighbours is {wrong[0]}: contexts are looked up in a text; expected a .txt")
    if arguments.neighbours and arguments.longest_context == 0:
        raise BadInput("--neighbours with --longest_context=0: nothing is looked up; leave one of them out")


def run(model: "LanguageModel", arguments: argparse.Namespace) -> int:
    """Scores all texts of a command; returns the exit code."""
    from zoo.data.datasets import text_files
    from zoo.predict.language_models.dynamic_evaluation import DynamicEvaluation

    evaluation, code = DynamicEvaluation(model, _settings(arguments), _neighbours(model, arguments.neighbours)), 0
    if evaluation.settings.optimizer == "rms":
        evaluation.measure_gradients(_training_ids(model, arguments.workdir, _MEASURED * evaluation.settings.segment))
    texts = [(f"text {i}", {"text": text}, functools.partial(str, text)) for i, text in enumerate(arguments.text, 1)]
    texts += [(name, {"file": name}, functools.partial(text_files.content, Path(name))) for name in arguments.files]
    for title, origin, read in texts:
        try:
            text = read()
            ids = model.ids(text, least=2)
            evaluated = evaluation.evaluate(ids)
        except ZooError as error:
            code = max(code, fail(type(error)(f"{title}: {error}")))
            continue
        answer = report(model, text, ids, evaluated, evaluation.settings)
        if arguments.json:
            print(strict_json.dumps(origin | answer))
        else:
            _print(title, answer)
    return code


def report(
    model: "LanguageModel", text: str, ids: Any, evaluated: "Evaluated", settings: "DynamicConfig"
) -> dict[str, Any]:
    """The JSON object of a text: scores of the three ways, the mixture's gain with its interval, settings and trace."""
    values = {name: getattr(evaluated, name) for name in _WAYS}
    scores = {name: model.scored(text, ids, value) for name, value in values.items() if value is not None}
    gain, size = dict(zip(("", "_low", "_high"), evaluated.gain())), scores["static"].bytes
    units = {"nats_per_token": 1.0} | ({"bits_per_byte": len(evaluated.static) / size / math.log(2)} if size else {})
    return {
        **{name: _numbers(score) for name, score in scores.items()},
        "gain": {f"{unit}{end}": value * scale for unit, scale in units.items() for end, value in gain.items()},
        "predicted": len(evaluated.static),
        "settings": _finite(settings._asdict()),
        "trace": [_finite(segment._asdict()) for segment in evaluated.trace],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Drops None, and the -inf of a diverged copy, which JSON cannot hold."""
    return {name: value for name, value in values.items() if value is not None and value != -math.inf}


def _numbers(score: "TextScore") -> dict[str, float]:
    if score.log_probability == -math.inf:
        return {}
    numbers = {"log_probability": score.log_probability, "perplexity": score.perplexity}
    return _finite(numbers | {"bits_per_byte": score.bits_per_byte})


def _print(title: str, answer: dict[str, Any]) -> None:
    for name in filter(answer.__contains__, _WAYS):
        columns = [f"{key.replace('_', ' ')} {value:.4f}" for key, value in answer[name].items()]
        print(f"{title}\t{name}\t" + ("\t".join(columns) if columns else "output not finite"))
    gain, resets = answer["gain"], sum(bool(segment["reset"]) for segment in answer["trace"])
    units = [unit for unit in ("nats_per_token", "bits_per_byte") if unit in gain]
    columns = [
        f"{gain[unit]:.4f} {unit.replace('_', ' ')} ({gain[f'{unit}_low']:.4f} .. {gain[f'{unit}_high']:.4f})"
        for unit in units
    ]
    print(f"{title}\tgain\t" + "\t".join(columns) + f"\t{len(answer['trace'])} segments, {resets} resets")


def _settings(arguments: argparse.Namespace) -> "DynamicConfig":
    from zoo.predict.language_models.dynamic_evaluation import DynamicConfig

    options = {name: getattr(arguments, name) for name in _OPTIONS if getattr(arguments, name) is not None}
    return DynamicConfig(**options, stride=arguments.stride)


def _neighbours(model: "LanguageModel", names: list[str]) -> Any:
    """The tokens of all files one after the other; None without a file.

    Raises:
        BadInput: a file cannot be read, or is empty.
    """
    import numpy as np

    from zoo.data.datasets import text_files

    # Read before any text is scored, so that a missing file is said first.
    texts = {name: text_files.content(Path(name)) for name in names}
    empty = [name for name, text in texts.items() if not text]
    if empty:
        raise BadInput(f"--neighbours {empty[0]} is empty: expected text like the one to score")
    return np.concatenate([model.ids(text) for text in texts.values()]) if texts else None


def _training_ids(model: "LanguageModel", workdir: str, tokens: int) -> Any:
    """The first tokens of the run's training text.

    Raises:
        BadInput: the text cannot be read any more.
    """
    from zoo import files
    from zoo import workdir as folders
    from zoo.data.datasets import running_text

    run = folders.read_run(workdir, config_required=False)
    if "dataset" not in run.config:
        raise BadInput(f"{files.absolute(workdir) / folders.RUN} names no training text; use --optimizer=sgd")
    paths = [str(run.path(name)) if run.config.get(name) else "" for name in ("train_file", "eval_file", "test_file")]
    try:
        text = running_text.load(run.config["dataset"], *paths).train
    except BadInput as error:
        raise BadInput(f"--optimizer=rms measures gradients on the run's training text: {error}") from None
    # A token has at least one character.
    return model.ids(text[: 8 * tokens], least=2)[: tokens + 1]
