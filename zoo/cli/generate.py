"""`zoo generate`: a prompt and what a language model makes of it."""

import argparse
import dataclasses
import json
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from zoo.cli.parser import add_verb, require_run

if TYPE_CHECKING:
    from zoo.predict.language_models.generation import Generated


def add(verbs: Any) -> None:
    """`zoo generate WORKDIR --prompt "..."`."""
    verb = add_verb(
        verbs,
        "generate",
        "Print a prompt and what a language model makes of it.",
        "When a Transformer's context is full, its last half is read again as if it were the beginning; so it is with "
        "a prompt that does not fit in.",
    )
    verb.add_argument("--prompt", metavar="TEXT", required=True, help="what the text begins with: one token or more")
    verb.add_argument("--tokens", metavar="N", type=int, default=200, help="most tokens to generate (default: 200)")
    verb.add_argument("--temperature", metavar="T", type=float, help="0: always the most probable token (default: 1)")
    verb.add_argument(
        "--top_k", metavar="K", type=int, default=0, help="draw from the K most probable tokens only (default: all)"
    )
    verb.add_argument(
        "--top_p",
        metavar="P",
        type=float,
        default=1.0,
        help="draw from the fewest tokens that have P in all (nucleus; default: 1)",
    )
    verb.add_argument(
        "--repetition_penalty",
        metavar="X",
        type=float,
        default=1.0,
        help="divide the positive logits of tokens that stand in the text already by X, multiply negative ones "
        "(default: 1, no change)",
    )
    verb.add_argument(
        "--beams",
        metavar="N",
        type=int,
        default=0,
        help="no chance: keep the N most probable beginnings (beam search; default: none)",
    )
    verb.add_argument(
        "--stop", metavar="TEXT", action="append", default=[], help="end where this is generated; may be repeated"
    )
    verb.add_argument("--seed", metavar="N", type=int, default=0, help="the same seed gives the same text (default: 0)")
    verb.add_argument("--count", metavar="N", type=int, default=1, help="texts; with --beams the N best (default: 1)")
    verb.add_argument("--no_cache", action="store_true", help="read all tokens again for each: the same text, slower")
    verb.add_argument("--json", action="store_true", help="print one JSON object per text, when it is whole")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    # What is out of range is said at once, before TensorFlow is imported.
    from zoo.predict.language_models.sampling import SamplingConfig

    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(SamplingConfig)}
    settings = SamplingConfig(**given)
    from zoo.predict.language_models import generation
    from zoo.predict.language_models.language_model import load

    model, cache = load(arguments.workdir), not arguments.no_cache
    if settings.beams:
        for number, found in enumerate(model.generate(arguments.prompt, cache=cache, **given)):
            _print(arguments, number, found)
        return 0
    for number in range(settings.count):
        stream = model.stream(arguments.prompt, settings, number, cache)
        if arguments.json:
            _print(arguments, number, generation.finish(stream))
            continue
        _begin(arguments.prompt, number)
        for piece in stream:
            print(_harmless(piece), end="", flush=True)
        print()
    return 0


def _print(arguments: argparse.Namespace, number: int, found: "Generated") -> None:
    if not arguments.json:
        _begin(arguments.prompt, number)
        print(_harmless(found.text))
        return
    answer = {"prompt": arguments.prompt, "number": number, "text": found.text, "tokens": len(found.ids)}
    answer |= {"stopped": found.stopped, "log_probability": found.log_probability}
    print(json.dumps(answer | {"tokens_per_second": found.tokens_per_second}), flush=True)


def _begin(prompt: str, number: int) -> None:
    if number:
        print("---")
    print(_harmless(prompt), end="", flush=True)


def _harmless(text: str) -> str:
    """On a terminal, control characters but line ends and tabs are shown as U+FFFD; a file gets the text as it is."""
    if not sys.stdout.isatty():
        return text
    return "".join("\ufffd" if unicodedata.category(one) == "Cc" and one not in "\n\t" else one for one in text)
