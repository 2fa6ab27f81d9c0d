"""The tokenizer of a BERT's folder: vocab.txt as a tokenizer.json, and the files that an export needs around one."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from zoo.errors import BadInput
from zoo.files import absolute
from zoo.models.hugging_face import config

FILE = "tokenizer.json"
VOCABULARY = "vocab.txt"
SETTINGS = "tokenizer_config.json"
_SPECIAL = {
    "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip
# Their keys in tokenizer_config.json, and transformers' defaults.
_NORMAL = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}
# Classes that take a tokenizer.json for what it says; BertTokenizer lets tokenizer_config.json overrule it.
_PLAIN = ("PreTrainedTokenizerFast", "TokenizersBackend")
_PADDING = ("[PAD]", "<pad>")
_PARTS = ("model", "normalizer", "pre_tokenizer", "added_tokens")


def tokenizer_json(folder: str | Path) -> str:
    """The tokenizer.json of a folder, or the one that its vocab.txt and tokenizer_config.json mean to transformers.

    Raises:
        BadInput: there is neither file, or one is damaged or contradicts itself.
    """
    folder = absolute(folder)
    path, settings = find(folder), _settings(folder)
    if path.name == VOCABULARY:
        return _from_vocabulary(path, settings).to_str()
    text = _text(path)
    made, kept = library(text, path), json.loads(text)
    normalizer = kept.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer" and settings.get("tokenizer_class") not in _PLAIN:
        said = {name: settings[key] for key, (name, _) in _NORMAL.items() if key in settings}
        if any(normalizer.get(name) != value for name, value in said.items()):
            options = {"clean_text": normalizer.get("clean_text", True)} | _options(normalizer) | said
            made.normalizer = tokenizers.normalizers.BertNormalizer(**options)
            return made.to_str()
    return text


def find(folder: Path) -> Path:
    """The file that a folder's tokenizer is in.

    Raises:
        BadInput: there is none.
    """
    for name in (FILE, VOCABULARY):
        if (folder / name).is_file():
            return folder / name
    raise BadInput(f"{folder} has neither {FILE} nor {VOCABULARY}; expected the one that came with the weights")


def library(definition: str, source: str | Path = FILE) -> tokenizers.Tokenizer:
    """A tokenizer of the library from the text of a tokenizer.json.

    Raises:
        BadInput: it is none; `source` is named.
    """
    try:
        return tokenizers.Tokenizer.from_str(definition)
    except Exception as error:
        # The library raises bare Exceptions for whatever is wrong.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{source} is not a tokenizer.json ({reason}); expected the one of the weights") from None


def check(definition: str, vocabulary: int, source: str | Path = FILE) -> None:
    """Compares a tokenizer with the rows of a token embedding.

    Raises:
        BadInput: an id has no row, which a compiled lookup would not notice, or padding is not 0, as it is in the zoo.
    """
    made = library(definition, source)
    last = max(made.get_vocab(with_added_tokens=True).values(), default=0)
    if last >= vocabulary:
        raise BadInput(
            f"{source} has the id {last}, the embedding has {vocabulary} rows; expected the tokenizer of these weights"
        )
    first = made.id_to_token(0)
    if first not in _PADDING:
        raise BadInput(f"{source} has {first!r} for id 0; expected padding there, {' or '.join(_PADDING)}")


def files(definition: str, positions: int) -> dict[str, str]:
    """The texts of the files that an export's tokenizer needs, by name.

    [CLS] and [SEP] are put around texts where tokenizer.json leaves that to the caller. vocab.txt is there if it alone
    makes this very tokenizer.
    """
    made = library(definition)
    known = made.get_vocab(with_added_tokens=True)
    special = {key: token for key, token in _SPECIAL.items() if token in known}
    if made.post_processor is None and {"cls_token", "sep_token"} <= special.keys():
        _frame(made, special)
        definition = made.to_str()
    lines, parts = _lines_of(made), json.loads(made.to_str())
    settings = {"tokenizer_class": _PLAIN[0] if lines is None else "BertTokenizer", "model_max_length": positions}
    # Unless it is asked to, a plain tokenizer says nothing of segments, and of a pair both texts would be the first.
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    if lines is not None:
        settings |= {key: parts["normalizer"][name] for key, (name, _) in _NORMAL.items()}
    found = {FILE: definition, SETTINGS: json.dumps(settings | special, indent=1) + "\n"}
    return found | ({} if lines is None else {VOCABULARY: "".join(f"{line}\n" for line in lines)})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected the file of the weights") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not text in UTF-8; expected the file of the weights") from None


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    found = config.read_object(path, "that of the tokenizer, or none") if path.exists() else {}
    for key in _NORMAL:
        if not isinstance(found.get(key), bool | None) or (found.get(key, True) is None and key != "strip_accents"):
            raise BadInput(f"{path}: {key} is {found[key]!r}; expected true or false")
    return found


def _from_vocabulary(path: Path, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    vocabulary = _vocabulary(path)
    special = {key: _content(settings.get(key, token), path, key) for key, token in _SPECIAL.items()}
    missing = [token for token in special.values() if token not in vocabulary]
    if missing:
        raise BadInput(f"{path} lacks {', '.join(missing)}; expected a line for each special token of BERT")
    added = settings.get("added_tokens_decoder") or {}
    more = {
        _content(token, path, "added_tokens_decoder")
        for token in (added.values() if isinstance(added, dict) else [added])
    }
    if (path.parent / "added_tokens.json").exists() or not more <= set(special.values()):
        raise BadInput(
            f"{path.parent} has tokens besides {VOCABULARY}; expected a {FILE} then: make it with transformers, "
            "`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`"
        )
    return _made(vocabulary, {name: settings.get(key, usual) for key, (name, usual) in _NORMAL.items()}, special)


def _vocabulary(path: Path) -> dict[str, int]:
    """The ids of tokens; space at the end of a line is no part of one, and the last of equal lines counts."""
    try:
        return tokenizers.models.WordPiece.read_file(str(path))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} cannot be read ({reason}); expected a token in each line, in UTF-8") from None


def _made(vocabulary: dict[str, int], options: dict[str, bool | None], special: dict[str, str]) -> tokenizers.Tokenizer:
    """The BERT tokenizer of a vocabulary, as transformers makes it."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    made.normalizer = tokenizers.normalizers.BertNormalizer(clean_text=True, **options)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece(prefix="##")
    made.add_special_tokens(list(special.values()))
    _frame(made, special)
    return made


def _frame(made: tokenizers.Tokenizer, special: dict[str, str]) -> None:
    start, stop = special["cls_token"], special["sep_token"]
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {stop}:0",
        pair=f"{start}:0 $A:0 {stop}:0 $B:1 {stop}:1",
        special_tokens=[(token, made.token_to_id(token)) for token in (start, stop)],
    )


def _lines_of(made: tokenizers.Tokenizer) -> list[str] | None:
    """The lines of a vocab.txt that makes this very tokenizer, or None."""
    parts = json.loads(made.to_str())
    normalizer, known = parts["normalizer"] or {}, made.get_vocab(with_added_tokens=True)
    bert = normalizer.get("type") == "BertNormalizer" and parts["model"]["type"] == "WordPiece"
    if not bert or not set(_SPECIAL.values()) <= known.keys():
        return None
    lines = sorted(known, key=known.get)
    if any("\n" in line or line != line.rstrip() for line in lines):
        return None
    again = json.loads(_made({line: id for id, line in enumerate(lines)}, _options(normalizer), _SPECIAL).to_str())
    return lines if all(again[part] == parts[part] for part in _PARTS) else None


def _options(normalizer: dict[str, Any]) -> dict[str, bool | None]:
    return {name: normalizer.get(name, usual) for name, usual in _NORMAL.values()}


def _content(token: Any, path: Path, key: str) -> str:
    """A token that stands alone, or with how it is to be cut out."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str):
        raise BadInput(f"{path.with_name(SETTINGS)}: {key} is {token!r}; expected a token")
    return content
