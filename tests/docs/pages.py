"""The pages, and what there is in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Every page, as a path from the root.
PAGES = sorted(str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")))

_FENCED = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```$", re.DOTALL | re.MULTILINE)


def text_of(page: str) -> str:
    """Return a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[str]:
    """Return the code in a page that is written in one of these languages."""
    return [code for language, code in _FENCED.findall(text_of(page)) if language in languages]


def prose(page: str) -> str:
    """Return a page without its blocks of code."""
    return _FENCED.sub("", text_of(page))
