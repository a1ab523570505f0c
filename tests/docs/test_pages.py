"""What the pages say is true: what they link to, name, show, and are made from."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import pytest
from flask import Flask
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException

from ingest_service.cli import cli
from ingest_service.client import IngestClient
from ingest_service.domain.model import WaitCode
from ingest_service.settings import PREFIX, Settings
from tests.docs.made import MAKERS, made_anew, marks, resting_app
from tests.docs.pages import DOCS, PAGES, ROOT, blocks, prose, text_of
from tests.support import Api

_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)>\s]+)>?\)")
_ID = "0056f4ac-779d-41c1-8ebf-ae438b976afa"
#: What the tests and benchmarks understand, or what a page shows as wrong.
_NO_SETTINGS = {
    "INGEST_INTERVALL",
    "INGEST_KEY",
    "INGEST_REPLICAS",
    "INGEST_SITE",
    "INGEST_TEST_POSTGRES",
    "INGEST_URL",
}


@pytest.fixture(scope="module")
def app() -> Flask:
    """Give the application."""
    return resting_app()


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    """`make docs` writes it anew."""
    assert [page for page in PAGES if made_anew(text_of(page)) != text_of(page)] == []
    assert sorted(name for page in PAGES for name in marks(text_of(page))) == sorted(MAKERS)


# --- Links and names ---


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as they are made from its headings."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        number = sum(1 for other in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other))
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


def dead_links(page: str) -> Iterator[str]:
    """Yield the relative links of a page that lead nowhere."""
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert list(dead_links(page)) == []


def test_the_index_has_every_page_once() -> None:
    listed = [
        ((DOCS / link).resolve().relative_to(ROOT)).as_posix()
        for link in _LINK.findall(text_of("docs/README.md"))
    ]
    pages = {page for page in PAGES if re.fullmatch(r"docs/[\w-]+\.md", page)}
    assert len(listed) == len(set(listed))
    assert pages - set(listed) == {"docs/README.md"}


def test_the_index_of_decisions_has_every_decision_and_each_is_short() -> None:
    listed = _LINK.findall(text_of("docs/decisions/README.md"))
    decisions = sorted((DOCS / "decisions").glob("0*.md"))
    assert listed == [decision.name for decision in decisions]
    for decision in decisions:
        text = decision.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 30, decision.name
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ]


@pytest.mark.parametrize("page", PAGES)
def test_files_targets_and_settings_that_a_page_names_exist(page: str) -> None:
    text = text_of(page)
    for path in re.findall(r"`((?:tests|benchmarks|deploy|ingest_service)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)`", text)) <= targets
    settings = {PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    named = set(re.findall(r"\bINGEST_[A-Z][A-Z_]*[A-Z]\b", text)) - _NO_SETTINGS
    assert {name for name in named if not any(each.startswith(name) for each in settings)} == set()


def test_the_tests_of_the_promises_exist() -> None:
    table = text_of("README.md").partition("## What you can rely on")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| **")]
    assert len(rows) >= 10
    for promise, kept, tested in rows:
        assert kept.strip(), promise
        source = "".join(text_of(path) for path in re.findall(r"\]\((tests/[\w/.]+)\)", tested))
        names = re.findall(r"`(\w+)`", tested)
        assert names, promise
        assert [name for name in names if f"def {name}(" not in source] == [], promise


def test_the_gate_is_described_as_it_is() -> None:
    gate = text_of("CONTRIBUTING.md").partition("## The gate")[2].partition("\n## ")[0]
    described = re.findall(r"^\| `make ([\w-]+)` \|", gate, re.MULTILINE)
    run = re.search(r"^for target in (.*?); do$", text_of(".ci/run"), re.DOTALL | re.MULTILINE)
    assert run is not None
    assert described == run[1].replace("\\\n", " ").split()


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 200


def test_every_alert_has_a_section_in_the_runbook_and_says_where() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", rules)
    sections = re.split(r"^## ", text_of("docs/runbook.md"), flags=re.MULTILINE)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == alerts
    for section in sections:
        assert re.findall(r"^\*\*(.*?):\*\*", section, re.MULTILINE) == ["Means", "Look at", "Do"]
    assert re.findall(r"^ +runbook: (.*)$", rules, re.MULTILINE) == [
        f"docs/runbook.md#{name.lower()}" for name in alerts
    ]


def test_every_reason_to_wait_is_explained() -> None:
    table = text_of("docs/estimates.md").partition("## Why it waits")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(WaitCode)


def test_every_event_of_the_log_is_documented() -> None:
    sources = (ROOT / "ingest_service").rglob("*.py")
    events = {
        name
        for source in sources
        for name in re.findall(r"\bevent\(\s*\"(\w+)\"", source.read_text(encoding="utf-8"))
    }
    section = text_of("docs/operating.md").partition("## What is logged")[2].partition("\n## ")[0]
    assert len(events) > 20
    assert events - set(re.findall(r"`(\w+)`", section)) == set()


def test_every_method_of_the_client_is_documented() -> None:
    documented = set(re.findall(r"`(\w+)\(", text_of("docs/client.md")))
    public = {
        name
        for name, value in vars(IngestClient).items()
        if callable(value) and not name.startswith("_") and name != "close"
    }
    assert public - documented == set()


# --- Code ---


def commands(page: str) -> Iterator[list[str]]:
    """Yield the calls of our own command that a page shows, without its name."""
    for block in blocks(page, "sh", "console"):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            words = line.removeprefix("$ ").split(" | ")[-1].partition("   #")[0]
            words = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", words)
            for name in ("ingest-service ", "python -m ingest_service "):
                if words.startswith(name):
                    yield shlex.split(words.removeprefix(name))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_shown_is_one(page: str) -> None:
    for words in commands(page):
        command: click.Command | None = cli
        context = cli.make_context("ingest-service", [*words])
        while isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            assert command is not None, words
            context = command.make_context(name, rest, parent=context)


def requests(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield method, path and answer of each request to the service that a page shows."""
    for block in blocks(page, "sh", "console"):
        joined = re.sub(r"\\\n\s*", "", block)
        for part in re.split(r"^(?:\$ )?(?=\w*=?\S*curl )", joined, flags=re.MULTILINE)[1:]:
            line, _, answer = part.partition("\n")
            while line.count("'") % 2:
                more, _, answer = answer.partition("\n")
                line += f"\n{more}"
            url = re.search(r"(?:127\.0\.0\.1|localhost|ingest\.example):80\d\d(/[^\s'\"]*)?", line)
            if url is None:
                continue
            method = re.search(r"-X (\w+)", line)
            default = "POST" if re.search(r" -d ", line) else "GET"
            path = re.sub(r"\$\w+", _ID, url[1] or "/")
            yield method[1] if method else default, path, answer.split("\n$ ")[0]


@pytest.mark.parametrize("page", PAGES)
def test_every_request_that_is_shown_has_a_route_and_an_answer_of_its_shape(
    app: Flask, page: str
) -> None:
    document = cast(dict[str, Any], app.test_client().get("/openapi.json").get_json())
    routes = app.url_map.bind("localhost")
    for method, path, answer in requests(page):
        bare = path.partition("?")[0]
        try:
            rule, _ = routes.match(bare, method, return_rule=True)
        except HTTPException as error:
            raise AssertionError(f"{page}: {method} {path}") from error
        body = answer[answer.find("{") :]
        if not answer.strip() or "..." in body or not body.startswith("{"):
            continue
        name = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        shown, _ = json.JSONDecoder().raw_decode(body)
        status = str(shown["status"]) if "type" in shown else "200"
        content = document["paths"][name][method.lower()]["responses"][status]["content"]
        schema = next(iter(content.values()))["schema"] | {"components": document["components"]}
        assert [error.message for error in Draft202012Validator(schema).iter_errors(shown)] == []


def test_json_and_python_can_be_read() -> None:
    for page in PAGES:
        for code in blocks(page, "python"):
            compile(code, page, "exec")
        for code in blocks(page, "json"):
            json.loads(code if code.startswith(("{", "[")) else f"{{{code}}}")


def test_the_example_of_a_test_passes(api: Api) -> None:
    (code,) = blocks("CONTRIBUTING.md", "python")
    namespace: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), namespace)  # noqa: S102
    (test,) = (value for name, value in namespace.items() if name.startswith("test_"))
    test(api)
