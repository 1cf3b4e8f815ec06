"""Numbers of the paper outside the tables of its benchmarks: averages, mean probabilities, and
values of its figures. Values from the vector paths of a figure are exact to 0.02.

Benchmarks' own cells are in `probtune.evaluation.tasks` (`Task.paper`). Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["AVERAGES", "MEAN_P", "SCALING", "SHARE_ABOVE", "TRAINED_MEAN_P", "average"]

_NLL, _P, _CUT = "nll()", "p()", "above(0.2, nll())"

AVERAGES: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("math/llama-3.1-8b", "base"): 0.91,
        ("math/llama-3.1-8b", _NLL): 6.49,
        ("math/llama-3.1-8b", _CUT): 10.33,
        ("math/llama-3.1-8b", _P): 10.56,
        ("math/deepseekmath-7b", "base"): 2.49,
        ("math/deepseekmath-7b", _NLL): 11.10,
        ("math/deepseekmath-7b", _CUT): 18.65,
        ("math/deepseekmath-7b", _P): 19.11,
        ("math/qwen2.5-math-1.5b", "base"): 14.97,
        ("math/qwen2.5-math-1.5b", _NLL): 17.00,
        ("math/qwen2.5-math-1.5b", _CUT): 32.04,
        ("math/qwen2.5-math-1.5b", _P): 32.75,
        ("math/qwen2.5-math-1.5b", "power(10.0)"): 31.50,
        ("math/qwen2.5-math-7b", "base"): 20.23,
        ("math/qwen2.5-math-7b", _NLL): 22.67,
        ("math/qwen2.5-math-7b", _CUT): 38.16,
        ("math/qwen2.5-math-7b", _P): 36.51,
        ("medical/llama-3.2-3b", "base"): 19.48,
        ("medical/llama-3.2-3b", _NLL): 37.99,
        ("medical/llama-3.2-3b", _P): 36.29,
        ("medical/llama-3.1-8b", "base"): 21.89,
        ("medical/llama-3.1-8b", _NLL): 47.23,
        ("medical/llama-3.1-8b", _P): 45.89,
        ("medical/qwen2.5-1.5b", "base"): 18.59,
        ("medical/qwen2.5-1.5b", _NLL): 35.13,
        ("medical/qwen2.5-1.5b", _P): 35.02,
        ("medical/qwen2.5-math-7b", "base"): 27.55,
        ("medical/qwen2.5-math-7b", _NLL): 33.56,
        ("medical/qwen2.5-math-7b", _P): 33.83,
        ("code/qwen2.5-coder-7b", "base"): 63.6,
        ("code/qwen2.5-coder-7b", _NLL): 74.7,
        ("code/qwen2.5-coder-7b", _P): 77.8,
        ("languages/llama-3.1-8b", "base"): 7.1,
        ("languages/llama-3.1-8b", _NLL): 16.1,
        ("languages/llama-3.1-8b", _P): 11.5,
        ("languages/qwen2.5-7b", "base"): 7.7,
        ("languages/qwen2.5-7b", _NLL): 16.2,
        ("languages/qwen2.5-7b", _P): 13.3,
    }
)
"""(cell, objective) -> average over the domain's benchmarks as printed in Tables 1, 2, 8, 9 and
Figure 1. Table 2 averages over eleven test sets, one of which it does not show.
"""

_CONVEXITY_STRONG = (
    *(20.91, 24.92, 26.08, 27.51, 29.08, 30.74, 30.45, 30.67, 32.16, 32.75),
    *(33.02, 31.02, 30.59, 31.37, 32.23, 32.30, 32.08, 32.43, 31.50),
)
_CONVEXITY_WEAK = (
    *(84.2, 35.1, 43.1, 38.2, 37.5, 36.0, 31.8, 33.9, 32.3, 5.5),
    *(6.4, 0.0, 11.1, 5.0, 9.3, 1.8, 0.0, 0.0, 0.0),
)
_ALPHAS = (*(round(0.1 * n, 1) for n in range(1, 10)), *(float(n) for n in range(1, 11)))

_PERCENTILES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90)
_QUANTILES: Mapping[tuple[str, str], tuple[float | None, ...]] = {
    ("top", _NLL): (26.43, 30.43, 30.87, 33.98, 32.45, 29.96, 30.65, 23.44, 22.67, 29.61),
    ("bottom", _NLL): (1.37, 0.82, 2.94, 11.44, 15.52, 17.13, 17.24, 17.75, 17.41, 17.31),
    ("top", _P): (34.23, 31.96, 31.33, 31.53, 32.74, 31.11, 31.23, 24.60, 25.54, 28.77),
    ("bottom", _P): (0.96, 0.77, 15.45, 31.05, 31.25, 32.88, 33.57, 32.83, 33.36, 33.57),
    ("top", "log1m()"): (None, 33.20, 31.81, 32.59, 30.93, 31.21, 30.13, 30.10, 29.62, 21.38),
    ("bottom", "log1m()"): (0.88, None, 18.84, None, None, 31.75, None, None, 32.36, None),
}


def _figures() -> dict[tuple[str, str], float]:
    """Return the averages of Figures 5 and 6; Figure 6 (weak) is Jaro-Winkler x 100."""
    averages: dict[tuple[str, str], float] = {
        ("ablations/quantiles", _NLL): 17.00,
        ("ablations/quantiles", _P): 33.35,
        ("ablations/quantiles", "log1m()"): 32.92,
    }
    for (side, f), values in _QUANTILES.items():
        for percentile, value in zip(_PERCENTILES, values, strict=True):
            if value is not None:
                share = (100 - percentile if side == "top" else percentile) / 100
                averages["ablations/quantiles", f"{side}({share}, {f})"] = value
    for name, values in (("strong", _CONVEXITY_STRONG), ("weak", _CONVEXITY_WEAK)):
        for alpha, value in zip(_ALPHAS, values, strict=True):
            averages[f"ablations/convexity-{name}", f"power({alpha})"] = value
    return averages


_OF_FIGURES = MappingProxyType(_figures())

SCALING: Mapping[str, float] = MappingProxyType(
    {
        "math/qwen2.5-3b": 0.80,
        "math/qwen2.5-7b": 4.08,
        "math/qwen2.5-14b": 12.1,
        "math/qwen2.5-32b": 16.0,
    }
)
"""Cell -> average of p() minus average of nll() (Figure 7, which shows no averages)."""

MEAN_P: Mapping[str, float] = MappingProxyType(
    {
        "math/llama-3.1-8b": 0.80,
        "math/deepseekmath-7b": 0.76,
        "math/qwen2.5-math-1.5b": 0.80,
        "math/qwen2.5-math-7b": 0.81,
        "medical/llama-3.2-3b": 0.50,
        "medical/llama-3.1-8b": 0.53,
        "medical/qwen2.5-1.5b": 0.56,
        "medical/qwen2.5-math-7b": 0.59,
        "figlet/llama-3.2-3b": 0.01,
        "figlet/llama-3.1-8b": 0.01,
        "figlet/qwen2.5-1.5b": 0.01,
        "figlet/qwen2.5-7b": 0.07,
        "ablations/likelihood-strong": 0.80,
        "ablations/likelihood-weak": 0.07,
    }
)
"""Cell -> mean p of the base model on the training tokens (Table 5; the text, p. 4, says 0.76 for
LLaMA-3.1-8B on mathematics).
"""

SHARE_ABOVE: Mapping[str, float] = MappingProxyType(
    {
        "math/llama-3.1-8b": 0.728,
        "math/deepseekmath-7b": 0.767,
        "math/qwen2.5-math-1.5b": 0.806,
        "math/qwen2.5-math-7b": 0.812,
    }
)
"""Cell -> share of training tokens with p > 0.55 under the base model (Table 6)."""

TRAINED_MEAN_P: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("ablations/likelihood-strong", _NLL): 0.826,
        ("ablations/likelihood-strong", _P): 0.867,
        ("ablations/likelihood-weak", _NLL): 0.65,
        ("ablations/likelihood-weak", _P): 0.32,
    }
)
"""(cell, objective) -> mean p after training (Figure 6, bars)."""


def average(cell: str, objective: str) -> float | None:
    """Return the average that the paper prints, in points; None if it prints none.

    >>> average("ablations/quantiles", "top(0.7, nll())")
    33.98
    """
    key = (cell, objective)
    return AVERAGES.get(key, _OF_FIGURES.get(key))
