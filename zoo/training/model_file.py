"""Whether model.keras can be saved, and loaded by another program; asked before the first step."""

import warnings
from collections.abc import Iterator
from typing import Any

import keras

# Packages that Keras imports from by itself.
_PACKAGES = ("keras", "keras_hub", "keras_cv", "keras_nlp")
_MODULES = ("activations", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers")
_REGISTER = "@keras.saving.register_keras_serializable()"


def problem(model: keras.Model) -> str | None:
    """The reason why a model cannot be saved as model.keras, or could not be loaded from it, with the way out.

    Reads the model's config as `save` would write it; builds and writes nothing.
    """
    try:
        with warnings.catch_warnings():
            # Keras warns of a lambda; so does this function, with the way out.
            warnings.simplefilter("ignore")
            config = keras.saving.serialize_keras_object(model)
    except Exception as error:
        # `get_config` is anybody's code.
        reason = " ".join(str(error).split())[:80]
        return (
            f"the model cannot be saved as model.keras ({type(error).__name__}: {reason}...); give its class a "
            f"get_config() that returns the arguments of __init__, and {_REGISTER}"
        )
    unknown = [name for name in map(_unknown, _entries(config)) if name]
    if "<lambda>" in unknown:
        return (
            "model.keras could not be loaded, as Keras reads no Python lambda from a file; use a layer class of "
            f"your own, or a named function with {_REGISTER}"
        )
    if unknown:
        return f"model.keras could not be loaded, as Keras does not know {unknown[0]}; decorate it with {_REGISTER}"
    return None


def as_json(model: keras.Model) -> str:
    """The model's config, for TensorBoard's graph of layers; empty where it cannot be made."""
    try:
        return model.to_json()
    except Exception:
        # As above; `problem` says it.
        return ""


def _unknown(entry: dict[str, Any]) -> str:
    """The name of a class or function that Keras would not find again; empty for all other entries of a config."""
    name, registered = entry.get("class_name"), entry.get("registered_name")
    # Of a lambda that is an activation, Keras writes the code without saying what it is.
    codes = [value for key, value in entry.items() if str(key).endswith("activation")]
    if name == "__lambda__" or any(isinstance(code, dict) and set(code) == {"value"} for code in codes):
        return "<lambda>"
    if "module" not in entry or not registered:
        return ""
    package = (entry["module"] or "").partition(".")[0]
    if name == "function":
        name = registered = str(entry["config"])
        # Keras looks for a function of unknown module in its own ones.
        is_known = package in _PACKAGES or any(hasattr(getattr(keras, module), name) for module in _MODULES)
    else:
        is_known = package in (*_PACKAGES, "builtins")
    return "" if is_known or keras.saving.get_registered_object(registered) else name


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    """All dictionaries of a nested config."""
    stack = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(value.values())
        elif isinstance(value, (list, tuple)):
            stack.extend(value)
