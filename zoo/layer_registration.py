"""Registers the zoo's layers with Keras, so that `keras.models.load_model` reads a run's model.keras.

Keras finds a custom layer by its registered name ("zoo>Block"), which exists once the layer's module is imported. These
modules import TensorFlow, which takes seconds; so they are imported right after Keras is, and never without it.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

# The modules of all layers that a saved model may have.
MODULES = (
    "zoo.models.layers",
    "zoo.models.lstm_layers",
    "zoo.models.logits_mixture",
    "zoo.models.ngram_logits",
    "zoo.models.ngram_mixture",
    "zoo.models.word_logits",
    "zoo.models.transformer",
    "zoo.models.encoder_heads",
    "zoo.models.tabular",
    "zoo.models.table_encoding",
)


def register_with_keras() -> None:
    """Imports the layers now where Keras is imported already, else as soon as it is."""
    if "keras" in sys.modules:
        _import_layers()
    elif not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _import_layers() -> None:
    for name in MODULES:
        importlib.import_module(name)


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras where it would be found anyway, and lets the layers follow it."""

    _is_searching = False

    def find_spec(self, fullname: str, path=None, target: ModuleType | None = None):
        # The search below asks this finder again, which then has nothing to say.
        if fullname != "keras" or self._is_searching:
            return None
        self._is_searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithLayers(spec.loader)
        return spec


class _LoaderWithLayers(importlib.abc.Loader):
    """The loader of Keras, after which the layers are imported."""

    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # Tools that ask Keras for its files or sources must meet its own loader.
        module.__spec__.loader = module.__loader__ = self._loader
        if any(map(_is_being_imported, MODULES)):
            # One of them asked for Keras: the others need it whole.
            sys.meta_path.insert(0, _LaterFinder())
        else:
            _import_layers()


class _LaterFinder(importlib.abc.MetaPathFinder):
    """Finds nothing, and imports the layers as soon as none of their modules is half imported any more."""

    def find_spec(self, fullname: str, path=None, target: ModuleType | None = None):
        if not any(map(_is_being_imported, MODULES)):
            sys.meta_path.remove(self)
            _import_layers()
        return None


def _is_being_imported(name: str) -> bool:
    module = sys.modules.get(name)
    # Where Python itself notes it, to explain the error of a circular import.
    return module is not None and getattr(module.__spec__, "_initializing", False)
