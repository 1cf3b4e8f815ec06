r"""Words read from banners as the paper's code compares them: nothing is removed from the response.

The similarity takes both in lower case, without white space around. Written afresh from the
behaviour of evaluations/figfont in https://github.com/GaotangLi/Beyond-Log-Likelihood at 220589d.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..base import Grade, GradingItem, Progress
from ..figlet import grade_words

__all__ = ["grade"]


def grade(items: Sequence[GradingItem], *, progress: Progress | None = None) -> list[Grade]:
    """Grade each response as it is; `gold` is the word.

    >>> grade([GradingItem(" MAD ", "MAD")])[0].score
    0.0
    """
    return grade_words(items, strip=False, progress=progress)
