"""What the pages show is run as it stands, against a service."""

import re
import shlex
from pathlib import Path

import pytest

from ingest_service import client as client_module
from ingest_service.client import IngestClient
from tests.cli.support import run_at
from tests.client.support import listening

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """Return the code of a language in a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["docs/command.md", "README.md"])
def test_commands(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one run, one after the other; those of the machine are tested elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("1\n2-5\n")
    (tmp_path / "customers.csv").write_text("name,id\na,7\n")
    (tmp_path / "mappings.ndjson").write_text('{"id":"a","source":"s","target":"t"}\n')
    ran = 0
    with listening() as url, IngestClient(url) as client:
        for line in "".join(blocks(page, "sh")).splitlines():
            words = line.removeprefix("cat ids.txt | ").partition("   #")[0]
            name = words.split()[1] if words.startswith("ingest-service ") else ""
            if name in ("", "serve", "demo-upstream", "backup", "check", "restore", "keys"):
                continue
            done = client.submit(ids=[1, 2], priority="LOW")
            done.wait(timeout=20)
            if name in ("move", "cancel"):
                client.pause("tests")
                done = client.submit(ids=[1, 2], priority="LOW")
            arguments = [word.replace("$ID", done.ingestion_id) for word in shlex.split(words)[1:]]
            result = run_at(url)(*arguments, text="1\n2\n")
            assert result.exit_code == 0, (line, result.output)
            client.resume()
            ran += 1
    assert ran >= (20 if page == "docs/command.md" else 1)


@pytest.mark.parametrize("page", ["docs/client.md", "README.md"])
def test_programs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [text for text in blocks(page, "python") if "ingest_service.client" in text]
    assert programs
    with listening() as url:
        for program in programs:
            program = program.replace('"http://127.0.0.1:8000"', repr(url))
            program = program.replace("IngestClient()", f"IngestClient({url!r})")
            exec(compile(program, page, "exec"), {})  # noqa: S102
    doc = client_module.__doc__ or ""
    assert "client.submit(ids=range(1, 10)" in doc
