"""`zoo score --dynamic`: how probable a text is to a model that learns from it, and to the same model as it is."""

import argparse
import functools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.parser import fail, positive
from zoo.errors import BadInput, ZooError

if TYPE_CHECKING:
    from zoo.predict.language_models.dynamic_evaluation import DynamicConfig, Evaluated
    from zoo.predict.language_models.language_model import LanguageModel
    from zoo.predict.language_models.perplexity import TextScore

# Of the training text, for the size of its gradients: as many segments as give a mean square its first digit.
_MEASURED = 200
_WAYS = ("static", "dynamic", "mixed")
# Options of dynamic evaluation alone, by their names in `Settings`.
_OTHERS = ("segment", "learning_rate", "optimizer", "decay", "steps", "clip_norm", "patience")


def add(verb: argparse.ArgumentParser) -> None:
    """The options of dynamic evaluation."""
    group = verb.add_argument_group(
        "learning from the text (dynamic evaluation, Krause et al., 2018)",
        "Each segment is scored, then a copy of the model learns from it, then the next is scored. The answer mixes "
        "both models' probabilities: its loss is at most log 2 nats, for the whole text, above the model's own.",
    )
    group.add_argument(
        "--dynamic",
        action="store_true",
        help="learn on the way; each .txt is one text, and begins with the run's model",
    )
    group.add_argument(
        "--segment", metavar="N", type=positive, help="tokens scored before they are learned from (default: 64)"
    )
    group.add_argument(
        "--learning_rate",
        metavar="R",
        type=float,
        help="of each step; 0: none (default: the network's own, see dynamic_evaluation.py)",
    )
    group.add_argument(
        "--optimizer",
        metavar="NAME",
        help="sgd (default), or rms: steps in units of the gradient in the run's training text",
    )
    group.add_argument(
        "--decay", metavar="D", type=float, help="share of the way back to the run's model in each step (default: 0)"
    )
    group.add_argument("--steps", metavar="N", type=int, help="on each segment (default: 1)")
    group.add_argument(
        "--clip_norm", metavar="C", type=float, help="largest norm of the gradient; 0: not clipped (default: 1)"
    )
    group.add_argument(
        "--patience",
        metavar="N",
        type=int,
        help="segments; where the copy was worse over the last N, it starts from the run's model again "
        "(default: 0, never)",
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuses at once what does not go together.

    Raises:
        BadInput: an option of dynamic evaluation without it, or a file that is no text to learn from.
    """
    given = [name for name in _OTHERS if getattr(arguments, name) is not None]
    if not arguments.dynamic and given:
        raise BadInput(f"--{given[0]} is for learning from the text: add --dynamic")
    if arguments.dynamic:
        wrong = [name for name in arguments.files if not name.endswith(".txt")]
        if wrong:
            raise BadInput(f"{wrong[0]}: --dynamic learns from a text in its order; expected a .txt, or --text")


def run(model: "LanguageModel", arguments: argparse.Namespace) -> int:
    """Answers all texts of a command; its exit code."""
    from zoo.data.datasets import text_files
    from zoo.predict.language_models.dynamic_evaluation import DynamicEvaluation

    evaluation, code = DynamicEvaluation(model, _settings(arguments)), 0
    if evaluation.settings.optimizer == "rms":
        evaluation.measure_gradients(_training_ids(model, arguments.workdir, _MEASURED * evaluation.settings.segment))
    texts = [(f"text {i}", {"text": text}, functools.partial(str, text)) for i, text in enumerate(arguments.text, 1)]
    texts += [(name, {"file": name}, functools.partial(text_files.content, Path(name))) for name in arguments.files]
    for place, about, read in texts:
        try:
            ids = model.ids(read(), least=2)
            found = evaluation.evaluate(ids)
        except ZooError as error:
            code = max(code, fail(type(error)(f"{place}: {error}")))
            continue
        told = report(model, ids, found, evaluation.settings)
        if arguments.json:
            print(json.dumps(about | told))
        else:
            _print(place, told)
    return code


def report(model: "LanguageModel", ids: Any, found: "Evaluated", settings: "DynamicConfig") -> dict[str, Any]:
    """What is told of a text: each way of scoring, the mixture's gain with its interval, settings and trace."""
    scores = {name: model.scored(ids, getattr(found, name)) for name in _WAYS}
    gain, size = dict(zip(("", "_low", "_high"), found.gain())), scores["static"].bytes
    units = {"nats_per_token": 1.0} | ({"bits_per_byte": len(found.static) / size / math.log(2)} if size else {})
    return {
        **{name: _numbers(score) for name, score in scores.items()},
        "gain": {f"{unit}{end}": value * scale for unit, scale in units.items() for end, value in gain.items()},
        "predicted": len(found.static),
        "settings": _known(settings._asdict()),
        "trace": [_known(one._asdict()) for one in found.trace],
    }


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Without what there is not; JSON has no infinity either, which a copy out of bounds gives."""
    return {name: value for name, value in values.items() if value is not None and value != -math.inf}


def _numbers(score: "TextScore") -> dict[str, float]:
    if score.log_probability == -math.inf:
        return {}
    numbers = {"log_probability": score.log_probability, "perplexity": score.perplexity}
    return _known(numbers | {"bits_per_byte": score.bits_per_byte})


def _print(place: str, told: dict[str, Any]) -> None:
    for name in _WAYS:
        said = [f"{key.replace('_', ' ')} {value:.4f}" for key, value in told[name].items()]
        print(f"{place}\t{name}\t" + ("\t".join(said) if said else "output not finite"))
    gain, resets = told["gain"], sum(bool(one["reset"]) for one in told["trace"])
    units = [unit for unit in ("nats_per_token", "bits_per_byte") if unit in gain]
    said = [
        f"{gain[unit]:.4f} {unit.replace('_', ' ')} ({gain[f'{unit}_low']:.4f} .. {gain[f'{unit}_high']:.4f})"
        for unit in units
    ]
    print(f"{place}\tgain\t" + "\t".join(said) + f"\t{len(told['trace'])} segments, {resets} resets")


def _settings(arguments: argparse.Namespace) -> "DynamicConfig":
    from zoo.predict.language_models.dynamic_evaluation import DynamicConfig

    given = {name: getattr(arguments, name) for name in _OTHERS if getattr(arguments, name) is not None}
    return DynamicConfig(**given, stride=arguments.stride)


def _training_ids(model: "LanguageModel", workdir: str, tokens: int) -> Any:
    """The first tokens of the text that the run has learned.

    Raises:
        BadInput: it cannot be read any more.
    """
    from zoo import files
    from zoo import workdir as folders
    from zoo.data.datasets import running_text

    run = folders.read_run(workdir, config_required=False)
    if "dataset" not in run.config:
        raise BadInput(f"{files.absolute(workdir) / folders.RUN} names no text; use --optimizer=sgd")
    own = str(run.path("train_file")) if run.config.get("train_file") else ""
    try:
        text = running_text.load(run.config["dataset"], own).train
    except BadInput as error:
        raise BadInput(f"--optimizer=rms measures gradients on the run's training text: {error}") from None
    # A token has at least one character.
    return model.ids(text[: 8 * tokens], least=2)[: tokens + 1]
