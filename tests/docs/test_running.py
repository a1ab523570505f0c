"""What the pages show is run as it stands, against a service."""

import re
import shlex
from pathlib import Path

import pytest

from ingest_service import client as client_module
from ingest_service.client import IngestClient
from tests.cli.support import ID, run_at
from tests.client.support import listening
from tests.docs.pages import blocks

#: How many commands to a service a page has at least.
PAGES = {"docs/command.md": 20, "docs/tutorial.md": 7, "README.md": 1}


@pytest.mark.parametrize(("page", "least"), PAGES.items())
def test_commands(page: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one run, one after the other; those of the machine are tested elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("1\n2-5\n")
    (tmp_path / "customers.csv").write_text("name,id\na,7\n")
    (tmp_path / "mappings.ndjson").write_text('{"id":"a","source":"s","target":"t"}\n')
    ran = 0
    with listening() as url, IngestClient(url) as client:
        for line in "".join(blocks(page, "sh", "console")).splitlines():
            words = re.sub(r"^(\$ |cat ids.txt \| )", "", line).partition("   #")[0]
            name = words.split()[1] if words.startswith("ingest-service ") else ""
            if name in ("", "serve", "demo-upstream", "backup", "check", "restore", "keys"):
                continue
            done = client.submit(ids=[1, 2], priority="LOW")
            done.wait(timeout=20)
            if name in ("move", "cancel"):
                client.pause("tests")
                done = client.submit(ids=[1, 2], priority="LOW")
            words = ID.sub(done.ingestion_id, words.replace("$ID", done.ingestion_id))
            arguments = shlex.split(words)[1:]
            result = run_at(url)(*arguments, text="1\n2\n")
            assert result.exit_code == 0, (line, result.output)
            client.resume()
            ran += 1
    assert ran >= least


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
