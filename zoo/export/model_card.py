"""README.md of an artefact: what lies there, what goes in, what comes out, how texts become ids."""

from typing import Any

_TEXT = """\
## From a text to ids

The model takes ids: what the tokenizer does to a text (Unicode's normal forms, merges) has no operations in {format}.
`texts_in` in example.py is all of it, with NumPy and `tokenizers`:

1. `tokenizer.json` by the library `tokenizers`, without special tokens, truncation and padding{shift}.
2. {cut}
3. {frame}
4. Rows of one width, int32, with 0 behind each text's end.
"""


def text(signature: dict[str, Any], needs: str) -> str:
    """The README of a folder with this signature.

    Args:
        signature: as it lies beside the model.
        needs: what must be installed to run it.
    """
    reads_text = "text" in signature
    needs += " numpy tokenizers" if reads_text and signature["format"] != "huggingface" else " numpy"
    given = _given(signature)
    parts = [
        f"# {signature['model']}: a model for {signature['task'].replace('_', ' ')}\n",
        f"Made by zoo {signature['zoo']} in the format {signature['format']}, weights in float32. It needs no zoo:\n",
        f"    pip install {needs}\n    python example.py {given}\n",
        "`signature.json` has what follows for programs"
        + (", and the classes" if "classes" in signature else "")
        + ".\n",
        _table(signature),
    ]
    if reads_text and signature["format"] != "huggingface":
        parts.append(_of_text(signature))
    return "\n".join(parts)


def _given(signature: dict[str, Any]) -> str:
    if "text" not in signature:
        return f"examples.npy    # [n, {', '.join(map(str, signature['inputs'][0]['shape'][1:]))}]"
    if signature["text"]["pair"]:
        return "$'one text\\tanother text'"
    return '"a text with a [MASK]"' if signature["text"]["mask"] else '"a text" "another text"'


def _table(signature: dict[str, Any]) -> str:
    lines = ["| | name | shape | dtype | |", "|---|---|---|---|---|"]
    for kind in ("inputs", "outputs"):
        for each in signature[kind]:
            shape = f"[{', '.join(map(str, each['shape']))}]"
            lines.append(f"| {kind[:-1]} | `{each['name']}` | `{shape}` | {each['dtype']} | {each['is']} |")
    return "\n".join(lines) + "\n"


def _of_text(signature: dict[str, Any]) -> str:
    of = signature["text"]
    shift = "; each id plus 1, as the file's id 0 is no padding" if of["id_shift"] else ""
    return _TEXT.format(format=signature["format"], shift=shift, cut=_cut(of), frame=_frame(of))


def _cut(of: dict[str, Any]) -> str:
    longest = of["max_length"]
    if not longest:
        return "A text may be of any length."
    room = f"At most {longest} tokens, those of step 3 included"
    if of["pair"]:
        return f"{room}: of a pair that is too long the longer text loses its end."
    if of["mask"]:
        return f"{room}. `[MASK]` in a text is id {of['mask']}; `places` says where it stands in the row."
    kept = {"head": "first", "tail": "last", "head_tail": "first quarter and the last three quarters of the"}[of["cut"]]
    return f"{room}: of a longer text the {kept} ones."


def _frame(of: dict[str, Any]) -> str:
    if not of["frame"]:
        return "Nothing stands before or behind a text."
    first, last = of["frame"]
    if of["pair"]:
        return (
            f"Id {first}, one text, {last}, the other text, {last}; `segments` is 1 at the other text and its {last}."
        )
    return f"Id {first} before a text and {last} behind it."
