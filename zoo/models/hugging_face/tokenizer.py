"""Tokenizer of a BERT folder: converts vocab.txt to tokenizer.json, and makes the tokenizer files of an export."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from zoo.errors import BadInput
from zoo.files import absolute, read_text
from zoo.models.hugging_face import config

FILE = "tokenizer.json"
VOCABULARY = "vocab.txt"
SETTINGS = "tokenizer_config.json"
_SPECIAL = {
    "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip
# Options of the normalizer: keys in tokenizer_config.json -> names in tokenizer.json, and transformers' defaults.
_NORMALIZER = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}
# Classes that use a tokenizer.json unchanged; for BertTokenizer tokenizer_config.json overrides it.
_PLAIN = ("PreTrainedTokenizerFast", "TokenizersBackend")
_PADDING = ("[PAD]", "<pad>")
_PARTS = ("model", "normalizer", "pre_tokenizer", "added_tokens")


def tokenizer_json(folder: str | Path) -> str:
    """The tokenizer.json of a folder, or the one that transformers makes of its vocab.txt and tokenizer_config.json.

    Raises:
        BadInput: both files are missing, or one is damaged or contradicts itself.
    """
    folder = absolute(folder)
    path, settings = find(folder), _settings(folder)
    if path.name == VOCABULARY:
        return _from_vocabulary(path, settings).to_str()
    text = _text(path)
    tokenizer, definition = library(text, path), json.loads(text)
    normalizer = definition.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer" and settings.get("tokenizer_class") not in _PLAIN:
        overrides = {name: settings[key] for key, (name, _) in _NORMALIZER.items() if key in settings}
        if any(normalizer.get(name) != value for name, value in overrides.items()):
            options = {"clean_text": normalizer.get("clean_text", True)} | _options(normalizer) | overrides
            tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(**options)
            return tokenizer.to_str()
    return text


def find(folder: Path) -> Path:
    """The tokenizer file of a folder.

    Raises:
        BadInput: the folder has no tokenizer.
    """
    for name in (FILE, VOCABULARY):
        if (folder / name).is_file():
            return folder / name
    raise BadInput(f"{folder} has neither {FILE} nor {VOCABULARY}; expected the one that came with the weights")


def library(definition: str, source: str | Path = FILE) -> tokenizers.Tokenizer:
    """A tokenizer of the library from the text of a tokenizer.json.

    Raises:
        BadInput: the text is not a tokenizer.json; the message names `source`.
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
        BadInput: an id has no row, which a compiled lookup would not notice, or padding is not id 0, as in the zoo.
    """
    tokenizer = library(definition, source)
    last = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if last >= vocabulary:
        raise BadInput(
            f"{source} has the id {last}, the embedding has {vocabulary} rows; expected the tokenizer of these weights"
        )
    first = tokenizer.id_to_token(0)
    if first not in _PADDING:
        raise BadInput(f"{source} has {first!r} for id 0; expected padding there, {' or '.join(_PADDING)}")


def files(definition: str, positions: int) -> dict[str, str]:
    """The contents of an export's tokenizer files, by file name.

    A tokenizer without a post-processor gets one that adds [CLS] and [SEP]. vocab.txt is included if it defines exactly
    this tokenizer.
    """
    tokenizer = library(definition)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    special = {key: token for key, token in _SPECIAL.items() if token in vocabulary}
    if tokenizer.post_processor is None and {"cls_token", "sep_token"} <= special.keys():
        _add_post_processor(tokenizer, special)
        definition = tokenizer.to_str()
    lines, parts = _vocabulary_lines(tokenizer), json.loads(tokenizer.to_str())
    settings = {"tokenizer_class": _PLAIN[0] if lines is None else "BertTokenizer", "model_max_length": positions}
    # A plain tokenizer returns no token_type_ids by default: both texts of a pair would be in the first segment.
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    if lines is not None:
        settings |= {key: parts["normalizer"][name] for key, (name, _) in _NORMALIZER.items()}
    contents = {FILE: definition, SETTINGS: json.dumps(settings | special, indent=1) + "\n"}
    return contents | ({} if lines is None else {VOCABULARY: "".join(f"{line}\n" for line in lines)})


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; expected the file of the weights") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not text in UTF-8; expected the file of the weights") from None
    except ValueError as error:
        raise BadInput(f"{path} cannot be read: {error}; expected the file of the weights") from None


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    settings = config.read_object(path, "that of the tokenizer, or none") if path.exists() else {}
    for key in _NORMALIZER:
        value = settings.get(key)
        if not isinstance(value, bool | None) or (settings.get(key, True) is None and key != "strip_accents"):
            raise BadInput(f"{path}: {key} is {value!r}; expected true or false")
    return settings


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
    options = {name: settings.get(key, default) for key, (name, default) in _NORMALIZER.items()}
    return _bert_tokenizer(vocabulary, options, special)


def _vocabulary(path: Path) -> dict[str, int]:
    """The ids of tokens; space at the end of a line is ignored, and the last of equal lines counts."""
    try:
        return tokenizers.models.WordPiece.read_file(str(path))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} cannot be read ({reason}); expected a token in each line, in UTF-8") from None


def _bert_tokenizer(
    vocabulary: dict[str, int], options: dict[str, bool | None], special: dict[str, str]
) -> tokenizers.Tokenizer:
    """The BERT tokenizer of a vocabulary, as transformers makes it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(clean_text=True, **options)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(list(special.values()))
    _add_post_processor(tokenizer, special)
    return tokenizer


def _add_post_processor(tokenizer: tokenizers.Tokenizer, special: dict[str, str]) -> None:
    """Makes the tokenizer add [CLS] and [SEP]."""
    start, stop = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {stop}:0",
        pair=f"{start}:0 $A:0 {stop}:0 $B:1 {stop}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, stop)],
    )


def _vocabulary_lines(tokenizer: tokenizers.Tokenizer) -> list[str] | None:
    """The lines of a vocab.txt that defines exactly this tokenizer, or None."""
    parts = json.loads(tokenizer.to_str())
    normalizer, vocabulary = parts["normalizer"] or {}, tokenizer.get_vocab(with_added_tokens=True)
    is_bert = normalizer.get("type") == "BertNormalizer" and parts["model"]["type"] == "WordPiece"
    if not is_bert or not set(_SPECIAL.values()) <= vocabulary.keys():
        return None
    lines = sorted(vocabulary, key=vocabulary.get)
    if any("\n" in line or line != line.rstrip() for line in lines):
        return None
    rebuilt = _bert_tokenizer({line: id for id, line in enumerate(lines)}, _options(normalizer), _SPECIAL)
    rebuilt_parts = json.loads(rebuilt.to_str())
    return lines if all(rebuilt_parts[part] == parts[part] for part in _PARTS) else None


def _options(normalizer: dict[str, Any]) -> dict[str, bool | None]:
    return {name: normalizer.get(name, default) for name, default in _NORMALIZER.values()}


def _content(token: Any, path: Path, key: str) -> str:
    """The text of a token, which may be a string or an object with options."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str):
        raise BadInput(f"{path.with_name(SETTINGS)}: {key} is {token!r}; expected a token")
    return content
