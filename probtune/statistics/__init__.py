"""Estimates with their uncertainty. The unit of resampling is the item (a sequence, a question, a
seed), never the token or the sample: tokens of one sequence are not independent, and neither are
samples of one question.

SciPy and statsmodels do the statistics; here is which one, for what. No torch.

    estimates   mean and ratio over items: t interval, bootstrap
    questions   scores by question, read and checked; clusters of questions
    rates       avg@k, Wilson's interval for one answer and for shares, the unbiased pass@k
    paired      two systems on the same questions: difference, sign-flip test, McNemar
    macro       the mean over benchmarks and its paired difference; Holm
    seeds       several runs on the same questions
    power       the smallest difference that n questions can show
"""

from .estimates import (
    Estimate,
    bootstrap_ratio,
    mean,
    paired_ratio_difference,
    ratio,
    t_interval,
)
from .macro import Comparison, difference_over_seeds, holm, macro_average, macro_difference
from .paired import mcnemar, mcnemar_interval, paired_difference, sign_flip_test
from .power import detectable_difference, minimum_detectable_difference, questions_needed
from .questions import Clusters, Questions, Scores, by_question, read_scores
from .rates import avg_at_k, pass_at_k, rate, share, wilson
from .seeds import TwoLevel, two_level_bootstrap, two_level_difference

__all__ = [
    "Clusters",
    "Comparison",
    "Estimate",
    "Questions",
    "Scores",
    "TwoLevel",
    "avg_at_k",
    "bootstrap_ratio",
    "by_question",
    "detectable_difference",
    "difference_over_seeds",
    "holm",
    "macro_average",
    "macro_difference",
    "mcnemar",
    "mcnemar_interval",
    "mean",
    "minimum_detectable_difference",
    "paired_difference",
    "paired_ratio_difference",
    "pass_at_k",
    "questions_needed",
    "rate",
    "ratio",
    "read_scores",
    "share",
    "sign_flip_test",
    "t_interval",
    "two_level_bootstrap",
    "two_level_difference",
    "wilson",
]
