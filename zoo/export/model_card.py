"""Model card: the README.md of an exported model, with its inputs, outputs and the way from texts to ids."""

from typing import Any

_TEXT = """\
## From a text to ids

The model takes ids: {format} has no operations for tokenization (Unicode normalisation, merges). `{function}` in
example.py does all of it with NumPy and `tokenizers`:

1. Tokenize with `tokenizer.json` and the library `tokenizers`, without special tokens, truncation and padding{shift}.
2. {cut}
3. {frame}
4. Pad to rows of one width, int32, with 0 after each text's end.
{features}"""

_FEATURES = """\
5. Do this for each word of a sentence by itself. `column` in `word_features.py` gives the features of the words, from
   the sentence and the position of each word's first id; `signature.json` has the number of buckets.
"""


def text(signature: dict[str, Any], needs: str) -> str:
    """The README of a folder with this signature.

    Args:
        signature: content of signature.json.
        needs: packages that run the model.
    """
    reads_text = "text" in signature
    needs += " numpy tokenizers" if reads_text and signature["format"] != "huggingface" else " numpy"
    arguments = _example_arguments(signature)
    parts = [
        f"# {signature['model']}: a model for {signature['task'].replace('_', ' ')}\n",
        f"Made by zoo {signature['zoo']} in the format {signature['format']}, float32 weights. It runs without zoo:\n",
        f"    pip install {needs}\n    python example.py {arguments}\n",
        "`signature.json` has the following table for programs"
        + (", and the classes" if "classes" in signature else "")
        + ".\n",
        _table(signature),
    ]
    if reads_text and signature["format"] != "huggingface":
        parts.append(_text_section(signature))
    return "\n".join(parts)


def _example_arguments(signature: dict[str, Any]) -> str:
    if "table" in signature:
        return "table.csv    # with the columns of the training table"
    if "text" not in signature:
        return f"examples.npy    # [n, {', '.join(map(str, signature['inputs'][0]['shape'][1:]))}]"
    if signature["text"]["pair"]:
        return "$'one text\\tanother text'"
    if "word_features" in signature:
        return '"words of a sentence" "another sentence"'
    return '"a text with a [MASK]"' if signature["text"]["mask"] else '"a text" "another text"'


def _table(signature: dict[str, Any]) -> str:
    lines = ["| | name | shape | dtype | |", "|---|---|---|---|---|"]
    for kind in ("inputs", "outputs"):
        for each in signature[kind]:
            shape = f"[{', '.join(map(str, each['shape']))}]"
            lines.append(f"| {kind[:-1]} | `{each['name']}` | `{shape}` | {each['dtype']} | {each['is']} |")
    return "\n".join(lines) + "\n"


def _text_section(signature: dict[str, Any]) -> str:
    encoding = signature["text"]
    shift = "; add 1 to each id, as the file's id 0 is not padding" if encoding["id_shift"] else ""
    return _TEXT.format(
        format=signature["format"],
        function="words_in" if "word_features" in signature else "texts_in",
        shift=shift,
        cut=_truncation(encoding),
        frame=_special_tokens(encoding),
        features=_FEATURES if "word_features" in signature else "",
    )


def _truncation(encoding: dict[str, Any]) -> str:
    longest = encoding["max_length"]
    if not longest:
        return "A text may have any length."
    limit = f"Truncate to {longest} tokens, those of step 3 included"
    if encoding["pair"]:
        return f"{limit}: in a pair that is too long the longer text loses its end."
    if encoding["mask"]:
        return f"{limit}. `[MASK]` in a text is id {encoding['mask']}; `places` is its position in the row."
    kept = {
        "head": "its beginning",
        "tail": "its end",
        "head_tail": "a quarter from its beginning and the rest from its end",
    }[encoding["cut"]]
    return f"{limit}: of a longer text keep {kept}."


def _special_tokens(encoding: dict[str, Any]) -> str:
    if not encoding["frame"]:
        return "Add no special tokens."
    first, last = encoding["frame"]
    if encoding["pair"]:
        return (
            f"Id {first}, one text, {last}, the other text, {last}; `segments` is 1 at the other text and its {last}."
        )
    return f"Add id {first} before a text and {last} after it."
