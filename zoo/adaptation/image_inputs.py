"""Which models read images: the stages that move, rotate or perturb pixels need to know."""

import numpy as np

from zoo.errors import BadInput
from zoo.predict.predictors.predictor import Classifier

# Channels of grey, colour, and colour with opacity: an array of floats with these last is taken for an image.
_CHANNELS = (1, 3, 4)


def are_images(predictor: Classifier) -> bool:
    """Whether examples are certainly images: uint8 pixels, or floats `[height, width, 1, 3 or 4 channels]`."""
    return predictor.takes_images or (may_be_images(predictor) and predictor.shape[2:] in {(c,) for c in _CHANNELS})


def may_be_images(predictor: Classifier) -> bool:
    """Whether examples have the shape of images, of uint8 or floats.

    Floats `[height, width]` may also be a sequence of measurements, which only the user can tell.
    """
    if predictor.reads_text or predictor.takes_images:
        return predictor.takes_images
    return len(predictor.shape) in (2, 3) and np.dtype(predictor.dtype).kind == "f"


def require(predictor: Classifier, stage: str) -> None:
    """Refuses a model that reads no images.

    Args:
        predictor: a classifier.
        stage: name of the stage in `--refine`, for the message.

    Raises:
        BadInput: the examples are texts, rows of a table or whole numbers other than uint8.
    """
    if not may_be_images(predictor):
        raise BadInput(
            f"--refine={stage}: the model takes no images; expected inputs [height, width] or [height, width, "
            "channels] of uint8 or floats, or leave the stage out"
        )
