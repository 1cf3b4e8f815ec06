"""Foreign text made safe to show: control characters visible, secrets left out.

Model names, rows, templates and records come from strangers. On a terminal an escape sequence may
rewrite what stands there, and a bidirectional mark shows a text in another order than it has.
Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["counted", "redacted", "secrets_in", "slug", "token_kind", "visible"]

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of text
    "\u2028\u2029\ufeff\ud800-\udfff]"
)
_URL_PASSWORD = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*(?=@)")
_SECRET_NAME = re.compile(
    r"(?:^|[_.-])(?:hub_token|push_to_hub_token|use_auth_token|access_token|auth_token|token"
    r"|secret\w*|passwd|password\w*|api_?key|access_?key|private_?key|credentials?)$",
    re.IGNORECASE,
)
_PUBLIC_TOKEN = re.compile(r"(?:^|_)(?:pad|eos|bos|unk|cls|sep|mask|end|image|audio)_token$")
_QUERY_SECRET = re.compile(
    r"(?<=[?&])((?:[\w-]*(?:token|secret|signature|password|api[_-]?key)|sig|key)=)[^&\s#]+",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{12,}"
    r"|xox[abp]-[A-Za-z0-9-]{10,})"
)
_ASSIGNED = re.compile(
    r"((?:^|(?<=[\s'\"_-]))(?:hub_token|push_to_hub_token|access_token|auth_token|password|passwd"
    r"|secret|api_?key|token)\s*[=:]\s*)[^\s'\",}]+",
    re.IGNORECASE,
)


def visible(text: str) -> str:
    r"""Return a text with its control characters, bidirectional marks and half characters written
    out.

    >>> print(visible("a\x1b[31mb"))
    a\x1b[31mb
    """
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def redacted(text: str) -> str:
    """Return a text without the passwords of addresses, and without what looks like a token.

    >>> redacted("https://me:pw@host/x and hub_token=hf_1")
    'https://***@host/x and hub_token=***'
    """
    text = _URL_PASSWORD.sub("***", text)
    text = _QUERY_SECRET.sub(r"\1***", text)
    text = _ASSIGNED.sub(r"\1***", text)
    return _SECRET_VALUE.sub("***", text)


def secrets_in(values: Mapping[str, Any], where: str = "") -> str | None:
    """Return the name of the first value that is a secret, by its name or by its form; None if none
    is.

    >>> secrets_in({"training": {"hub_token": "x"}})
    'training.hub_token'
    >>> secrets_in({"pad_token": "<pad>"})
    """
    for key, value in values.items():
        name = f"{where}{key}"
        if isinstance(value, Mapping):
            inner = secrets_in(value, f"{name}.")
            if inner is not None:
                return inner
        elif isinstance(value, str) and value:
            if _SECRET_NAME.search(str(key)) and not _PUBLIC_TOKEN.search(str(key)):
                return name
            if (
                _SECRET_VALUE.search(value)
                or _URL_PASSWORD.search(value)
                or ("://" in value and _QUERY_SECRET.search(value))
            ):
                return name
    return None


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural but for one.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def slug(name: object) -> str:
    """Return an objective, or another short text, as a folder name.

    >>> slug("above(0.2, power(-0.5))")
    'above_0.2_power_-0.5'
    """
    return re.sub(r"[^\w.+-]+", "_", str(name)).strip("_")


def token_kind(text: str) -> str:
    """Return the kind of a token by its text: digits, words, punctuation, whitespace or other.

    >>> token_kind(" 42"), token_kind("Paris"), token_kind(" x2"), token_kind("?")
    ('digits', 'words', 'words', 'punctuation')
    """
    core = text.strip()
    if not core:
        return "whitespace"
    if "\ufffd" in core:
        return "other"  # a part of a character
    if core.isdigit():
        return "digits"
    if any(c.isalpha() for c in core):
        return "words"
    return "other" if any(c.isdigit() for c in core) else "punctuation"
