"""`make docs`: write the parts of the pages anew that are made from the code."""

from tests.docs.made import made_anew
from tests.docs.pages import PAGES, ROOT, text_of

for page in PAGES:
    if (text := made_anew(text_of(page))) != text_of(page):
        (ROOT / page).write_text(text, encoding="utf-8")
        print(f"{page}: written anew")  # noqa: T201 - who runs it wants to know
