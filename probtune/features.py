"""Features of a base model on its training data, before any training: what a choice of objective is
made from.
"""

from __future__ import annotations

import numpy as np

__all__ = ["sequence_outliers"]


def sequence_outliers(
    logp: np.ndarray,  # (tokens,)
    example: np.ndarray,  # (tokens,) which sequence
) -> np.ndarray:
    """How far each sequence's mean surprise lies above the median, in robust standard deviations.

    z = (s - median) / (1.4826 MAD + 0.1), s the mean of -log p over the sequence. The 0.1 nat keeps
    a model that knows nearly everything from calling every unlikely token an outlier.
    """
    counts = np.bincount(example)
    s = np.bincount(example, weights=-np.maximum(logp, -50.0)) / np.maximum(counts, 1)
    present = s[counts > 0]
    middle = np.median(present)
    spread = 1.4826 * np.median(np.abs(present - middle)) + 0.1
    return np.where(counts > 0, (s - middle) / spread, 0.0)
