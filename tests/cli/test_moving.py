"""`export` and `import`, as they are called."""

import os
import re
import stat
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from ingest_service.cli import cli
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from tests.engines.embedded.journals.support import accept, ingestion


def run(*arguments: str, text: bytes = b"") -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, list(arguments), input=text)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """Give a journal with something in it."""
    path = tmp_path / "journal.sqlite3"
    with closing(SqliteJournal(path)) as opened:
        opened.recover()
        accept(opened, ingestion(1))
    return str(path)


def test_a_journal_is_moved_through_a_file(journal: str, tmp_path: Path) -> None:
    """Which is for its owner's eyes, and tells the same wherever it was."""
    file, again, new = (str(tmp_path / name) for name in ("file", "again", "new.sqlite3"))
    before = os.umask(0)
    try:
        told = run("export", "--journal", journal, file)
    finally:
        os.umask(before)
    assert told.exit_code == 0, told.output
    assert re.fullmatch(
        re.escape(file) + r": 1 ingestion, 4 items, 0 starts, 0 marks; sha256 [0-9a-f]{64}\n",
        told.stdout,
    )
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert run("import", "--journal", new, file).stdout == told.stdout
    assert run("--journal", new, "export", again).stdout == told.stdout.replace(file, again)
    assert Path(again).read_bytes() == Path(file).read_bytes()


def test_a_journal_is_moved_through_a_pipe(journal: str, tmp_path: Path) -> None:
    """What people are told is beside what is moved."""
    out = run("export", "--journal", journal, "-")
    assert out.stderr.startswith("the output: 1 ingestion, 4 items")
    new = str(tmp_path / "new.sqlite3")
    told = run("import", "--journal", new, "-", text=out.stdout_bytes)
    assert told.stdout == out.stderr.replace("output", "input")


def test_what_does_not_work_is_one_line(journal: str, tmp_path: Path) -> None:
    file = str(tmp_path / "file")
    assert run("export", "--journal", journal, file).exit_code == 0
    for arguments, reason in (
        (("export", "--journal", journal, file), "exists already"),
        (("export", "--journal", f"{journal}.gone", f"{file}.new"), "cannot be opened"),
        (("export", "--journal", "memory", f"{file}.new"), "is no file"),
        (("import", "--journal", journal, file), "is not empty"),
        (("import", "--journal", f"{journal}.new", f"{file}.gone"), "cannot be read"),
        (("import", "--journal", f"{journal}.new", journal), "damaged at the first line"),
        (("import", "--journal", f"{tmp_path}/none/new", file), "is the folder there"),
    ):
        ran = run(*arguments)
        assert (ran.exit_code, ran.stdout) == (2, ""), ran.output
        assert re.fullmatch(rf"ingest_service: .*{reason}.*\n", ran.stderr), ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "journal.sqlite3"]


@pytest.mark.parametrize("command", ["check", "restore", "export", "import"])
def test_a_journal_of_a_newer_version_is_refused_in_one_line(
    command: str, journal: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "file")
    assert run("export", "--journal", journal, file).exit_code == 0
    with closing(apsw.Connection(journal)) as db:
        db.execute("PRAGMA user_version = 999").fetchall()
    others = {
        "check": ["--journal", journal],
        "restore": ["--journal", f"{journal}.new", journal],
        "export": ["--journal", journal, f"{file}.new"],
        "import": ["--journal", journal, file],
    }
    ran = run(command, *others[command])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert re.fullmatch(r"ingest_service: .*newer version \(format 999, .*\n", ran.stderr)
