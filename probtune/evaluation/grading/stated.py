r"""The letter that a response states as its answer, in words: "The answer is (C)", "**Answer:** C",
`<answer>C</answer>`, "C is correct".

Markdown, quotes, tags and LaTeX around the letter do not matter, and the letter may stand on the
line after the words. The last line counts, wherever in it the statement is. An earlier line counts
if it states the answer and nothing else, and no line after it takes it back ("wait", "but", "let me
check"). Two letters ("A, C", "A or B") are no answer, and neither is an article ("The answer is A
common disease").
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .latex import clean

__all__ = ["plain", "stated_letter"]


def stated_letter(text: str, letters: Iterable[str]) -> str | None:
    """Return the letter that a response states, one of `letters`, or None.

    >>> stated_letter("The answer is:\\n**C**", "ABCD"), stated_letter("Answer: A, C", "ABCD")
    ('C', None)
    >>> stated_letter("Answer: B\\n\\nExplanation: A is too weak.", "ABCD")
    'B'
    >>> stated_letter("The answer is C.\\nBut wait, it may be", "ABCD") is None
    True
    """
    lines = [line.strip() for line in _joined(text).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return None
    letter = _letter_in(lines[-1][-_LINE:], letters)
    if letter is not None:
        return letter
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if len(line) > _LINE or not _ONLY.fullmatch(line):
            continue
        if any(_TAKEN_BACK.search(later) for later in lines[number + 1 :]):
            return None
        return _letter_in(line, letters)
    return None


def plain(text: str) -> str:
    """Return a short text without LaTeX commands for text, Markdown, quotes, tags, and white space
    or a full stop at its end.

    >>> plain(r"\\text{**C**}."), plain("<b>“C”</b>"), plain(r"\\(C\\)")
    ('C', 'C', 'C')
    """
    text = clean(text) if "\\" in text or "$" in text else " ".join(text.split())
    while True:
        inner = _TAG.sub("", _TEXT.sub(r"\1", text)).strip(_MARKS).removesuffix(".").strip()
        if inner == text:
            return text
        text = inner


def _joined(text: str) -> str:
    """A response without marks around words and letters, each statement on one line."""
    text = _ANSWER_TAG.sub(lambda tag: f"\nAnswer: {' '.join(tag[2].split())}\n", text)
    text = _TAG.sub("", text)
    text = _TEXT.sub(r"\1", text)
    text = re.sub(r"\\boxed\s*\{([^{}]*)\}|\\[()\[\]]|\\displaystyle|[*`$\"“”„«»]|__", r"\1", text)
    text = re.sub(r"^[ \t]*(?:#+|>|[-•])[ \t]*", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<!\w)['‘’]([A-Za-z])['’](?!\w)", r"\1", text)
    return _HEADING.sub(r"\1: ", text)


def _letter_in(line: str, letters: Iterable[str]) -> str | None:
    """The letter of the last statement in a line, if it is one letter."""
    statements = [*_STATEMENT.finditer(line), *_CORRECT.finditer(line)]
    if not statements:
        return None
    last = max(statements, key=lambda match: match.start("letter"))
    if _ANOTHER.match(line, last.end()):
        return None
    letter = last["letter"]
    if letter.islower():
        rest = line[last.end() :].strip(" .!)]")
        bracketed = (
            line[last.start("letter") - 1] in "([" and line[last.end("letter") :][:1] in ")]"
        )
        if rest and not bracketed:
            return None
    return letter.upper() if letter.upper() in letters else None


_LINE = 4_000
"""Characters: longer lines are read from their end."""
_MARKS = "*_`\"'“”‘’„«» "
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|textit|emph|boldsymbol|mbox)\s*\{([^{}]*)\}")
_TAG = re.compile(r"</?[A-Za-z][\w-]*\s*/?>")
_ANSWER_TAG = re.compile(r"<((?:final[_-]?)?(?:answer|choice|option))>(.*?)</\1>", re.I | re.S)
_SUBJECT = (
    r"(?:(?:(?:final|correct|right|best|my|the)\s+)*(?:answer|ans)(?:\s+(?:choice|option|letter))?"
    r"|(?:final|correct|right|best|my)\s+(?:(?:final|correct|right|best)\s+)*"
    r"(?:choice|option|letter))(?![A-Za-z])"
)
_VERB = (
    r"(?:\s*(?:(?:is|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be)(?![A-Za-z])"
    r"(?:\s+(?:therefore|thus|hence|clearly|most\s+likely|simply))?|[:=：]|-+>|→|[–—-](?=\s)))+"
)
_HEADING = re.compile(
    rf"(?i)({_SUBJECT}(?:\s+(?:is|would\s+be|should\s+be|must\s+be))?)[ \t]*[:：]?[ \t]*\n\s*"
    r"(?=[(\[]?[A-Za-z][)\].:]?\s*(?:\n|$|[A-Z]))"
)
_BEFORE = r"\s*(?i:option\s+|choice\s+|letter\s+)?[(\[{]?\s*"
_AFTER = r"(?![A-Za-z0-9'’-])(?!(?<=[AI])\s+[a-z])"
_STATEMENT = re.compile(
    rf"(?i:{_SUBJECT}{_VERB}){_BEFORE}(?P<letter>[A-Z]|[a-z](?=\s*[)\]}}.!]*\s*$|[)\]])){_AFTER}"
)
_CORRECT = re.compile(
    r"(?:^|(?<=[\s,;:]))(?i:option\s+|choice\s+|answer\s+)?[(\[]?(?P<letter>[A-Z])[)\]]?\s+is\s+"
    r"(?:therefore\s+|thus\s+)?(?:the\s+)?(?:correct|right|best)(?![A-Za-z])"
)
_ANOTHER = re.compile(
    r"\s*[)\]}.:]?\s*(?:,|/|&|\+|(?:and|or|and/or|nor)(?![A-Za-z]))+\s*"
    r"(?:(?i:and|or|maybe|perhaps|possibly|both|option|choice)\s+)*[(\[]?[A-Z](?![A-Za-z0-9'’-])"
    r"(?!(?<=[AI])\s+[a-z])(?!\s*[)\]]?\s+(?:is|are|was|would|does|has|can|cannot|fails)(?![a-z]))"
)
_ONLY = re.compile(
    rf"(?:(?i:so|thus|hence|therefore|then)[,:]?\s+)?(?:(?i:{_SUBJECT}{_VERB}){_BEFORE}[A-Za-z]"
    rf"(?:\s*[)\]}}.,!:]+|\s*$)(?:\s.*)?|.*{_CORRECT.pattern.replace('?P<letter>', '')}"
    r"(?:\s+(?:answer|option|choice))?[.!]?)"
)
_TAKEN_BACK = re.compile(
    r"(?i)(?<![A-Za-z])(?:wait|but|however|actually|let\s+me|let's|re-?check|re-?consider|instead"
    r"|second\s+thought|mistake|correction|sorry|or\s+maybe|not\s+sure|double[- ]check)(?![A-Za-z])"
)
