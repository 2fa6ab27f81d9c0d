"""Recolouring: labelled source images are given the mean, the spectrum and the covariance of a stream.

Sun, Feng and Saenko, "Return of frustratingly easy domain adaptation", 2016 (CORAL), section 3: whiten the source
features, colour them with the target's covariance, and train on the result. On pixels, their linear map would amplify
what hardly varies in the source, such as the border of a digit. So what the stream has less of than the source is
damped, and what it has more of is added as noise:

1. Damping, by frequency: the square root of the ratio of the spectra, at most 1. This is a blur or a loss of contrast.
   Or overall, by one factor for all frequencies, where noise hides the damping at some of them: fog is one.
2. Noise, Gaussian, with the part of the covariance that is then missing (or, for large images, of the spectrum): what
   does not depend on the image, such as sensor noise, fog or dirt.
3. The mean image of the stream.

Everything is relative to source images in the same class proportions.
"""

import numpy as np

# Numbers per image up to which a covariance is estimated; above, the noise is stationary.
_COVARIANCE = 1024
# Share of the frequencies, those of the largest source power, whose damping counts for the overall one; and the
# quantile among them: noise only ever hides damping.
_STRONGEST, _LEAST_HIDDEN = 0.25, 0.2
_TINY = 1e-3


class SourceImages:
    """Labelled images of the source, which can be made to look like those of a stream.

    Args:
        images: uint8 or float `[examples, height, width]` or `[examples, height, width, channels]`.
        labels: int `[examples]`, each class at least once.
        seed: seed of the noise.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int = 0):
        self._dtype, self._shape = images.dtype, images.shape[1:]
        self._range = (0, 255) if images.dtype == np.uint8 else (images.min(), images.max())
        self._labels, self._counts = labels, np.bincount(labels)
        self._images = _channels_first(images)  # [examples, channels, height, width]
        self._frequencies = np.fft.rfft2(self._images).astype(np.complex64)
        draw = np.random.default_rng(seed)
        self._noise = draw.standard_normal(self._images.shape, dtype=np.float32)

    def like(self, stream: np.ndarray, shares: np.ndarray, overall: bool = False) -> np.ndarray:
        """The source images, recoloured.

        Args:
            stream: images of the same shape and type as the source's.
            shares: class proportions of the stream, `[classes]`.
            overall: whether one factor damps all frequencies.

        Returns:
            Images of the source's shape and type.
        """
        weights = (shares / self._counts)[self._labels]
        weights = (weights / weights.sum()).astype(np.float32)
        target = _channels_first(stream)
        target_mean, mean = target.mean(axis=0), np.tensordot(weights, self._images, 1)
        target = target - target_mean
        centred = self._frequencies - np.fft.rfft2(mean).astype(np.complex64)
        source_spectrum = np.tensordot(weights, _power(centred), 1)  # [channels, height, width // 2 + 1]
        target_spectrum = _power(np.fft.rfft2(target)).mean(axis=0)
        gain = np.minimum(np.sqrt(target_spectrum / (source_spectrum + _TINY)), 1).astype(np.float32)
        gain = _overall(gain, source_spectrum) if overall else gain
        damped = np.fft.irfft2(gain * centred, s=mean.shape[1:]).astype(np.float32)
        if mean.size <= _COVARIANCE:
            noise = self._coloured_noise(target, damped, weights)
        else:
            missing = np.maximum(target_spectrum - gain**2 * source_spectrum, 0) / mean[0].size
            noise = np.fft.irfft2(np.fft.rfft2(self._noise) * np.sqrt(missing), s=mean.shape[1:])
        return self._as_images(target_mean + damped + noise)

    def _coloured_noise(self, target: np.ndarray, damped: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Noise with the covariance that the damped images lack, where they lack any."""
        examples, rows = target.reshape(len(target), -1), damped.reshape(len(damped), -1)
        covariance = examples.T @ examples / len(examples) - (weights[:, None] * rows).T @ rows  # [numbers, numbers]
        variances, directions = np.linalg.eigh(covariance)
        scales = np.sqrt(np.maximum(variances, 0))
        return ((self._noise.reshape(rows.shape) * scales) @ directions.T).reshape(damped.shape)

    def _as_images(self, pixels: np.ndarray) -> np.ndarray:
        pixels = np.moveaxis(np.clip(pixels, *self._range), 1, 3).reshape(len(pixels), *self._shape)
        return (np.rint(pixels) if self._dtype == np.uint8 else pixels).astype(self._dtype)


def _overall(gain: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """The factor of the frequencies that the source is made of, where noise has hidden it least."""
    strongest = spectrum >= np.quantile(spectrum, 1 - _STRONGEST)
    return np.full_like(gain, np.quantile(gain[strongest], _LEAST_HIDDEN))


def _channels_first(images: np.ndarray) -> np.ndarray:
    """The images as float32 `[examples, channels, height, width]`."""
    images = images if images.ndim == 4 else images[..., None]
    return np.moveaxis(images, 3, 1).astype(np.float32)


def _power(frequencies: np.ndarray) -> np.ndarray:
    return frequencies.real**2 + frequencies.imag**2
