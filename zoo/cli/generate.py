"""`zoo generate`: text generation, a language model continues a prompt."""

import argparse
import dataclasses
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli.parser import add_verb, require_run

if TYPE_CHECKING:
    from zoo.predict.language_models.generation import Generated


def add(verbs: Any) -> None:
    """`zoo generate WORKDIR --prompt "..."`."""
    verb = add_verb(
        verbs,
        "generate",
        "Print a prompt and its continuation by a language model.",
        "When a Transformer's context is full, generation goes on from its last half, as if the text began there; "
        "a prompt that is too long is cut in the same way.",
    )
    verb.add_argument("--prompt", metavar="TEXT", required=True, help="beginning of the text: one token or more")
    verb.add_argument("--tokens", metavar="N", type=int, default=200, help="most tokens to generate (default: 200)")
    verb.add_argument(
        "--temperature",
        metavar="T",
        type=float,
        help="softmax temperature; 0: no sampling (default: 1)",
    )
    verb.add_argument(
        "--top_k", metavar="K", type=int, default=0, help="sample from the K most probable tokens only (default: all)"
    )
    verb.add_argument(
        "--top_p",
        metavar="P",
        type=float,
        default=1.0,
        help="nucleus sampling: sample from the fewest tokens whose probabilities add up to P (default: 1)",
    )
    verb.add_argument(
        "--repetition_penalty",
        metavar="X",
        type=float,
        default=1.0,
        help="divide positive logits of tokens that are already in the text by X, multiply negative ones (default: 1, "
        "no change)",
    )
    verb.add_argument(
        "--beams",
        metavar="N",
        type=int,
        default=0,
        help="beam search instead of sampling: keep the N most probable beginnings (default: sampling)",
    )
    verb.add_argument(
        "--stop", metavar="TEXT", action="append", default=[], help="stop when TEXT is generated; may be repeated"
    )
    verb.add_argument("--seed", metavar="N", type=int, default=0, help="the same seed gives the same text (default: 0)")
    verb.add_argument(
        "--count", metavar="N", type=int, default=1, help="number of texts, with --beams the best (default: 1)"
    )
    verb.add_argument("--no_cache", action="store_true", help="without the KV cache: the same text, slower")
    verb.add_argument("--json", action="store_true", help="print one JSON object per text, once it is complete")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    # First, so that a value out of range is refused before TensorFlow is imported.
    from zoo.predict.language_models.sampling import SamplingConfig

    options = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(SamplingConfig)}
    sampling = SamplingConfig(**options)
    from zoo.predict.language_models import generation
    from zoo.predict.language_models.language_model import load

    model, cache = load(arguments.workdir), not arguments.no_cache
    if sampling.beams:
        for number, generated in enumerate(model.generate(arguments.prompt, cache=cache, **options)):
            _print(arguments, number, generated)
        return 0
    for number in range(sampling.count):
        stream = model.stream(arguments.prompt, sampling, number, cache)
        if arguments.json:
            _print(arguments, number, generation.finish(stream))
            continue
        _begin(arguments.prompt, number)
        for piece in stream:
            print(_harmless(piece), end="", flush=True)
        print()
    return 0


def _print(arguments: argparse.Namespace, number: int, generated: "Generated") -> None:
    if not arguments.json:
        _begin(arguments.prompt, number)
        print(_harmless(generated.text))
        return
    answer = {"prompt": arguments.prompt, "number": number, "text": generated.text, "tokens": len(generated.ids)}
    answer |= {"stopped": generated.stopped, "log_probability": generated.log_probability}
    print(strict_json.dumps(answer | {"tokens_per_second": generated.tokens_per_second}), flush=True)


def _begin(prompt: str, number: int) -> None:
    if number:
        print("---")
    print(_harmless(prompt), end="", flush=True)


def _harmless(text: str) -> str:
    """On a terminal, control characters except line ends and tabs become U+FFFD; a file gets the text unchanged."""
    if not sys.stdout.isatty():
        return text
    return "".join("\ufffd" if unicodedata.category(char) == "Cc" and char not in "\n\t" else char for char in text)
