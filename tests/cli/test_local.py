"""The commands on this machine: the journal, and the announcement of a server."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ingest_service.cli import cli
from ingest_service.cli.local import serve as serving
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import JournalOutdated
from ingest_service.settings import Settings


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the logging of the other tests as it is."""
    monkeypatch.setattr("ingest_service.logs.configure", lambda _: None)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """Give an empty journal."""
    path = tmp_path / "journal.sqlite3"
    SqliteJournal(path).close()
    return str(path)


def test_a_journal_is_backed_up_checked_and_restored(journal: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.sqlite3")
    assert run("backup", "--journal", journal, copy).stdout.startswith(f"{copy}: written")
    assert "sound; 0 ingestions, 0 of them unfinished." in run("check", "--journal", copy).stdout
    Path(journal).unlink()
    assert run("restore", copy, "--journal", journal).stdout == (
        f"{journal}: restored from {copy}.\n"
    )
    assert run("--journal", journal, "check").exit_code == 0


def test_what_does_not_work_is_one_line(
    journal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INGEST_JOURNAL", "memory")
    ran = run("check")
    assert (ran.exit_code, ran.stderr) == (
        2, "ingest_service: INGEST_JOURNAL=memory is no file; name one with --journal.\n",
    )  # fmt: skip
    monkeypatch.setenv("INGEST_INTERVAL", "soon")
    assert run("check").stderr.startswith("ingest_service: INGEST_INTERVAL")


UNUSABLE = {
    "check what is not there": "check --journal none",
    "check a folder": "check --journal .",
    "check what is empty": "check --journal empty",
    "check what is called by no text": "check --journal \udcff",
    "back up what is not there": "backup --journal none copy",
    "back up into nowhere": "backup --journal {journal} none/copy",
    "back up to what is called by no text": "backup --journal {journal} \udcff",
    "back up onto a file": "backup --journal {journal} {journal}",
    "restore what is not there": "restore --journal {journal} none",
    "restore what is damaged": "restore --journal {journal} damaged",
    "restore to what is called by no text": "restore --journal \udcff {journal}",
    "restore into nowhere": "restore --journal none/journal {journal}",
    "export what is not there": "export --journal none copy",
    "import what is not there": "import --journal new none",
    "import what is no export": "import --journal new damaged",
    "keys in no file": "keys --file none list",
    "keys in a folder": "keys --file . list",
    "a key into nowhere": "keys --file none/keys new a --scope read",
    "a key that nobody has": "keys --file none revoke a",
    "no keys file": "keys list",
    "no database": "migrate",
    "work for no database": "work",
    "a wrong setting": "serve --interval nan",
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_exit_2(
    journal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: str
) -> None:
    """In one line, also where it is a file and no option."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    Path("empty").touch()
    Path("damaged").write_bytes(b"\xa5" * 4096)
    ran = run(*UNUSABLE[case].format(journal=journal).split())
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert re.fullmatch(r"ingest_service: .*\n", ran.stderr)


NOT_THERE = "there is no such file; name another one."
NO_FILE = "it is a folder; name a file."


@pytest.mark.parametrize(
    ("command", "named", "said"),
    [
        ("check --journal none", "none", NOT_THERE),
        ("check --journal none/none", "none/none", NOT_THERE),
        ("backup --journal . copy", ".", NO_FILE),
        ("restore --journal {journal} none", "none", NOT_THERE),
        ("restore --journal {journal} .", ".", NO_FILE),
        ("restore --journal {folder} {journal}", "{folder}", NO_FILE),
        ("export --journal none copy", "none", NOT_THERE),
        ("import --journal {folder} export", "{folder}", NO_FILE),
    ],
)
def test_what_is_not_there_or_no_file_is_called_so(
    journal: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    named: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", "--journal", journal, "export").exit_code == 0
    places = {"journal": journal, "folder": str(tmp_path)}
    ran = run(*command.format(**places).split())
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"ingest_service: {named.format(**places)}: cannot be opened: {said}\n"


def test_damage_is_an_answer_and_exit_1(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"\xa5" * 4096)
    ran = run("check", "--journal", str(damaged))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "damaged, or not a journal" in ran.stderr


def test_ctrl_c_is_exit_130(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang_up(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ingest_service.engines.embedded.journals.files.verify", hang_up)
    ran = run("check", "--journal", journal)
    assert (ran.exit_code, ran.output.strip()) == (130, "")


@pytest.mark.parametrize("command", ["migrate", "migrate --check", "work", "export copy"])
def test_a_database_that_does_not_answer_is_exit_3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INGEST_JOURNAL", "postgresql://ingest@127.0.0.1:1/nothing")
    ran = run(*command.split())
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert ran.stderr.startswith("ingest_service: The database cannot be reached: ")
    assert list(tmp_path.iterdir()) == []


def test_a_schema_that_has_to_be_brought_up_to_date_is_an_answer_and_exit_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check(*_: object, **__: object) -> str:
        raise JournalOutdated("The database has no schema yet.")

    monkeypatch.setattr("ingest_service.app.migrate", check)
    ran = run("migrate", "--check")
    assert (ran.exit_code, ran.stderr) == (1, "ingest_service: The database has no schema yet.\n")


@pytest.mark.parametrize(
    "command",
    ["check --journal {journal}", "keys --file {keys} list", "export --journal {journal} -"],
)
def test_an_output_that_cannot_be_written_is_one_line(
    journal: str, tmp_path: Path, command: str
) -> None:
    keys = str(tmp_path / "keys.toml")
    assert run("keys", "--file", keys, "new", "a", "--scope", "read").exit_code == 0
    words = command.format(journal=journal, keys=keys).split()
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert ran.returncode == 2
    assert re.fullmatch(r"ingest_service: .*No space left on device.*\n", ran.stderr)


@pytest.mark.parametrize("command", ["export", "import"])
def test_without_an_output_or_an_input_there_is_no_stream(
    journal: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(click.UsageError, match="There is no standard"):
        cli.main([command, "--journal", journal, "-"], standalone_mode=False)


def test_serving_hands_over_to_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything in its environment; it says nothing of its own before it listens."""
    handed: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: handed.append(command))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    ran = run("serve", "--port", "9001", "--journal", "memory", "--interval", "2.5")
    assert ran.exit_code == 0, ran.output
    assert ran.output == ""
    assert handed[0][-2:] == [
        "python:ingest_service.cli.local.serve_conf", "ingest_service.wsgi:app",
    ]  # fmt: skip
    assert (os.environ["PORT"], os.environ["INGEST_INTERVAL"]) == ("9001", "2.5")
    assert run("serve", "--interval", "soon").stderr.startswith("ingest_service: INGEST_INTERVAL")
    os.environ["INGEST_INTERVAL"] = "1"
    for port in ("abc", "", "99999", "-1"):
        os.environ["PORT"] = port
        ran = run("serve")
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"ingest_service: PORT={port!r} is not allowed")


def test_a_service_says_where_it_is_and_what() -> None:
    assert serving.announcement(Settings(interval=2.5), "http://127.0.0.1:9001") == [
        "Listens on    http://127.0.0.1:9001",
        "Explained at  http://127.0.0.1:9001/docs",
        "Watched at    http://127.0.0.1:9001/dashboard",
        "Work is kept  in memory, until it ends",
        "The API is    simulated; --upstream names a real one",
        "Its pace      one batch every 2.5 s",
    ]


def test_a_taken_port_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exit status of a wrong setting, and without a word of listening."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("serve", "--port", str(port))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == (
        f"ingest_service: 127.0.0.1:{port} cannot be used: another program listens there. "
        "Choose another port with PORT.\n"
    )


def test_a_real_api_and_a_file_are_named() -> None:
    settings = Settings(upstream="batch+http://127.0.0.1/", journal="a.sqlite3")
    lines = serving.announcement(settings, "http://127.0.0.1:9001")
    assert lines[3:5] == [
        "Work is kept  in a.sqlite3, over restarts", "The API is    batch+http://127.0.0.1/",
    ]  # fmt: skip


def test_keys_are_made_listed_replaced_and_revoked(tmp_path: Path) -> None:
    """The key alone goes to the output, for a script to take."""
    file = str(tmp_path / "keys.toml")
    ran = run("keys", "--file", file, "new", "nightly", "--scope", "submit", "--scope", "read",
              "--max-priority", "MEDIUM", "--expires-in", "90d")  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.startswith("ik_")
    assert len(ran.stdout.split()) == 1
    assert "only time the key is shown" in ran.stderr

    replaced = run("keys", "--file", file, "rotate", "nightly", "--overlap", "1h")
    assert replaced.stdout.startswith("ik_")
    assert replaced.stdout != ran.stdout
    listed = run("keys", "--file", file, "list").stdout.splitlines()
    assert listed[0].split() == ["name", "scopes", "limits", "expires"]
    assert "read submit  MEDIUM at most" in listed[1]
    assert run("keys", "--file", file, "revoke", "nightly").exit_code == 0
    assert len(run("keys", "--file", file, "list").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("new", "a b", "--scope", "read"), "letters, digits"),
        (("new", "a"), "--scope"),
        (("new", "a", "--scope", "all"), "is not one of"),
        (("new", "a", "--scope", "read", "--requests-per-minute", "0"), "whole number from 1"),
        (("new", "a", "--scope", "read", "--expires-at", "2027-01-01"), "time zone"),
        (("new", "a", "--scope", "read", "--expires-at", "2026-01-01T00:00:00Z"), "has passed"),
        (("new", "a", "--scope", "read", "--expires-in", "0s"), "has passed"),
        (("rotate", "a", "--overlap", "soon"), "must be"),
    ],
)
def test_a_wrong_key_is_not_made(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    file = tmp_path / "keys.toml"
    ran = run("keys", "--file", str(file), *options)
    assert ran.exit_code == 2
    assert told in ran.stderr
    assert not file.exists()


@pytest.mark.parametrize("command", ["new b --scope read", "rotate a --overlap 0s"])
def test_a_key_that_nobody_has_seen_is_not_in_the_file(tmp_path: Path, command: str) -> None:
    file = tmp_path / "keys.toml"
    assert run("keys", "--file", str(file), "new", "a", "--scope", "read").exit_code == 0
    before = file.read_text()
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", "keys", "--file", file, *command.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert (ran.returncode, file.read_text()) == (2, before)
    assert ran.stderr == "ingest_service: the output: No space left on device.\n"


@pytest.mark.parametrize("command", ["list", "revoke a", "rotate a --overlap 1h"])
def test_a_keys_file_is_called_what_it_was_called(tmp_path: Path, command: str) -> None:
    file = tmp_path / "keys.toml"
    assert run("keys", "--file", str(file), "new", "a", "--scope", "read").exit_code == 0
    file.chmod(0o644)
    ran = run("keys", "--file", str(file), *command.split())
    assert ran.stderr.startswith(f"ingest_service: {file}: others can read or change")
    assert (
        "INGEST_API_KEYS_FILE='"
        in CliRunner(env={"INGEST_API_KEYS_FILE": str(file)}).invoke(cli, ["keys", "list"]).stderr
    )
