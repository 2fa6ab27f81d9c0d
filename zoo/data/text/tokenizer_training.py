"""Tokenizer training: the same texts give the same bytes of tokenizer.json on every machine."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import tokenizers

from zoo.errors import BadInput

KINDS = ("wordpiece", "bpe", "word", "char")
# For language models: lossless; upper case, spaces and line ends are restored.
EXACT = ("byte", "character", "byte_bpe")
# Characters without a spelling of those that the training text lacks, which become [UNK]: as in runs before it existed.
KNOWN_CHARACTERS = "known_character"
# Tokens of bytes, as SentencePiece writes them (Kudo and Richardson, 2018).
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
# In the order of their ids; the last three are for Transformers.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Tokens that occur once become [UNK], which is trained on them.
_MIN_FREQUENCY = 2
_CONTINUES = "##"
# A word with the space before it (as "▁"), a number, or a run of symbols. Chinese has no spaces: a clause is one word.
_WORDS = r"▁?[\p{L}\p{M}]+|▁?\p{N}+|▁?[^▁\p{L}\p{M}\p{N}]+"


def train(texts: Sequence[str], kind: str, vocabulary_size: int) -> str:
    """The tokenizer.json of a tokenizer of one of `KINDS` or `EXACT`, see `tokenizer.train`."""
    texts = [valid_unicode(text) for text in texts]
    if kind == "character":
        return _characters(texts, vocabulary_size).to_str()
    kind = "character" if kind == KNOWN_CHARACTERS else kind
    tokenizer = _untrained(kind)
    tokenizer.train_from_iterator(texts, _trainer(tokenizer, kind, texts, vocabulary_size), length=len(texts))
    if kind == "wordpiece":
        tokenizer = _with_vocabulary(tokenizer.get_vocab(with_added_tokens=True))
    tokenizer.decoder = _decoder(kind)
    return tokenizer.to_str()


def valid_unicode(text: str) -> str:
    """Returns the text unchanged if it is valid Unicode.

    Raises:
        BadInput: it cannot be encoded as UTF-8, so the library cannot read it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"a text has half a surrogate pair, {text[error.start]!a} at character {error.start}; expected Unicode text"
        ) from None
    return text


def bytes_of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level piece encodes, as in GPT-2."""
    # Printable bytes map to themselves, the others in order to the characters after Latin-1.
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _untrained(kind: str, vocabulary: dict[str, int] | None = None):
    if kind in EXACT:
        return _exact(kind)
    normalizers, pre_tokenizers, models = tokenizers.normalizers, tokenizers.pre_tokenizers, tokenizers.models
    steps = [normalizers.NFKC(), normalizers.Lowercase()]
    if kind in ("wordpiece", "word"):
        # Adds spaces around Chinese characters. Stripping accents would halve the speed.
        steps += [normalizers.BertNormalizer(clean_text=False, strip_accents=False, lowercase=False)]
    model = {
        "wordpiece": lambda: models.WordPiece(vocabulary or {}, unk_token="[UNK]"),
        "bpe": lambda: models.BPE(unk_token="[UNK]"),
        "word": lambda: models.WordLevel(unk_token="[UNK]"),
        "char": lambda: models.WordLevel(unk_token="[UNK]"),
    }[kind]()
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(steps)
    if kind == "bpe":
        marked = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        split = pre_tokenizers.Split(tokenizers.Regex(_WORDS), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marked, split])
    elif kind == "char":
        tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(length=1)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _exact(kind: str):
    """Characters, bytes, or byte-level BPE as in GPT-2 (Radford et al., 2019, section 2.2)."""
    models, pre_tokenizers = tokenizers.models, tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]") if kind == "character" else models.BPE())
    if kind == "character":
        tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(length=1)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "byte_bpe")
    return tokenizer


def _characters(texts: Sequence[str], size: int):
    """Characters by frequency, and the 256 bytes that spell all others in UTF-8.

    Characters that occur once are spelled, too: so the model learns how probable a character is that it does not know
    (the share of those that occur once; Good, 1953), and that the bytes are what follows.
    """
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    counts = np.bincount(points)
    points = np.flatnonzero(counts >= _MIN_FREQUENCY)
    known = map(chr, points[np.argsort(-counts[points], kind="stable")][: size - len(SPECIAL)].tolist())
    tokens = [*SPECIAL, *BYTES, *known]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], byte_fallback=True))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.FixedLength(length=1)
    tokenizer.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()])
    return tokenizer


def _trainer(tokenizer, kind: str, texts: Sequence[str], vocabulary_size: int):
    trainers = tokenizers.trainers
    common = {"vocab_size": vocabulary_size, "min_frequency": _MIN_FREQUENCY, "show_progress": False}
    if kind in ("byte", "byte_bpe"):
        size = len(SPECIAL) + 256 if kind == "byte" else vocabulary_size
        alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        special = {"special_tokens": list(SPECIAL), "initial_alphabet": alphabet}
        return trainers.BpeTrainer(**common | {"vocab_size": size}, **special)
    if kind == "character":
        # Characters that occur once must be restored, too.
        return trainers.WordLevelTrainer(special_tokens=list(SPECIAL), **common | {"min_frequency": 1})
    if kind in ("word", "char"):
        return trainers.WordLevelTrainer(special_tokens=list(SPECIAL), **common)
    alphabet, continued = _alphabet(tokenizer, kind, texts, (vocabulary_size - len(SPECIAL)) // 2)
    # The library breaks ties between merges by id and numbers "##a", "##b" in the order of a hash table, which differs
    # from process to process. Special tokens are numbered first, in their order here.
    common |= {"initial_alphabet": alphabet, "limit_alphabet": len(alphabet)}
    special = [*SPECIAL, *(_CONTINUES + character for character in continued)]
    trainer = {"wordpiece": trainers.WordPieceTrainer, "bpe": trainers.BpeTrainer}[kind]
    return trainer(special_tokens=special, **common)


def _alphabet(tokenizer, kind: str, texts: Sequence[str], most: int) -> tuple[list[str], list[str]]:
    """The most frequent characters that fit in `most` ids, and those of them that may continue a word of wordpiece."""
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    counts = np.bincount(points)
    frequency = Counter()
    for point in np.flatnonzero(counts):
        for character in tokenizer.normalizer.normalize_str(chr(point)):
            frequency[character] += int(counts[point])
    # Words of bpe begin with its mark, which is not in the texts.
    alphabet, continued = (["▁"] if kind == "bpe" else []), []
    usable = [
        character for character in frequency if frequency[character] >= _MIN_FREQUENCY and not character.isspace()
    ]
    for character in sorted(set(usable) - set(alphabet), key=lambda character: (-frequency[character], character)):
        joins = kind == "wordpiece" and _joins(tokenizer, character)
        if len(alphabet) + len(continued) + 1 + joins > most:
            break
        alphabet.append(character)
        continued += [character] if joins else []
    return alphabet, continued


def _joins(tokenizer, character: str) -> bool:
    """Whether a character may be inside a word: it is neither punctuation nor Chinese."""
    normal = tokenizer.normalizer.normalize_str(f"a{character}a")
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(normal)) == 1


def _with_vocabulary(vocabulary: dict[str, int]):
    """A wordpiece tokenizer with exactly the special tokens of `SPECIAL`."""
    tokenizer = _untrained("wordpiece", vocabulary)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _decoder(kind: str):
    decoders = tokenizers.decoders
    return {
        "wordpiece": lambda: decoders.WordPiece(prefix=_CONTINUES),
        "bpe": lambda: decoders.Metaspace(),
        "word": lambda: None,
        "char": lambda: decoders.Fuse(),
        "character": lambda: decoders.Fuse(),
        "byte": lambda: decoders.ByteLevel(),
        "byte_bpe": lambda: decoders.ByteLevel(),
    }[kind]()
