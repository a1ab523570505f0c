"""What several of these tests use."""

import re
from html.parser import HTMLParser
from typing import Any

from werkzeug.test import TestResponse

from tests.support import Api

HOSTILE = (
    "<svg onload=alert(1)>",
    "\"'><script>alert(1)</script>",
    "{{7*7}}{% raw %}",
    "'; DROP TABLE x;--",
    "../../etc",
    "\\u0000",
    "A" * 1024,
)
PAGES = ("/dashboard", "/dashboard/ingestions", "/dashboard/submit")


class Words(HTMLParser):
    """Collects the text of a page, and what in it a policy would have to forbid."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.inline: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note addresses, styles and handlers."""
        named = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in named) or tag in ("svg onload",):
            self.inline.append(tag)
        self.inline += [name for name in named if name == "style" or name.startswith("on")]
        self.addresses += [
            value for name, value in attrs if name in ("href", "src", "action") and value
        ]

    def handle_data(self, data: str) -> None:
        """Collect."""
        self.text += data


def look(api: Api, path: str) -> str:
    """Return the text of a page, in one line."""
    answer = api.client.get(path)
    assert answer.status_code == 200, answer.text
    return words(answer)


def words(answer: TestResponse) -> str:
    """Return the text of an answer, in one line."""
    return re.sub(r"\s+", " ", Words(answer.text).text)


def send(api: Api, path: str, **form: Any) -> TestResponse:
    """Send a form of the pages."""
    return api.client.post(f"/dashboard{path}", data=form)
