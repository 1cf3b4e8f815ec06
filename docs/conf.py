"""The documentation site: Sphinx with MyST, because the pages are Markdown and the API's words are
the docstrings. `make docs` builds it; a warning is an error.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import probtune  # noqa: E402

project = "probtune"
author = copyright = "The probtune developers"
release = version = probtune.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_extra", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"probtune {release}"
html_extra_path = ["_extra"] if (DOCS / "_extra").is_dir() else []
html_copy_source = False
highlight_language = "bash"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = os.environ.get("PROBTUNE_NOTEBOOKS", "force")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
suppress_warnings = ["misc.highlighting_failure"]  # rows of JSON lines are no JSON


def setup(app: Any) -> None:
    """Connect what makes pages and docstrings fit the site."""
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", as_restructured_text)


def complete(app: Any, page: str, source: list[str]) -> None:
    """Fill in what is generated, and unlink files of the repository that the site does not have."""
    text = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", source[0])
    if page == "api":
        text = text.replace("MEMBERS", members())
    if page == "gallery":
        text += reports()
    source[0] = text


def members() -> str:
    """Return the directives of all objectives."""
    from probtune.objectives import MEMBERS, signature

    lines = []
    for name in probtune._MEMBERS:
        kind = "autoclass" if inspect.isclass(MEMBERS[name]) else "autofunction"
        lines.append(f".. {kind}:: probtune.{signature(MEMBERS[name])}\n")
    return "\n".join(lines)


def reports() -> str:
    """Return links to the reports that `docs/gallery.py` has made."""
    names = sorted(path.name for path in (DOCS / "_extra" / "gallery").glob("*.html"))
    links = "".join(
        f'<li><a href="gallery/{name}">{name.removesuffix(".html")}</a></li>' for name in names
    )
    return f"\n<ul>{links}</ul>\n" if names else "\nThis build has none.\n"


def as_restructured_text(
    app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]
) -> None:
    """Turn the docstrings' Markdown into the markup that Sphinx reads."""
    program = False
    for index, line in enumerate(lines):
        program = line.lstrip().startswith(">>>") or (program and bool(line.strip()))
        if not program:
            lines[index] = "".join(map(_piece, re.split(r"(`+[^`]+`+)", line)))


def _piece(text: str) -> str:
    if text.startswith("`"):
        return f"``{text.strip('`')}``"
    return re.sub(r"(?<!\\)([*|]|_(?!\w))", r"\\\1", text)
