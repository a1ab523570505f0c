"""Help comes at once, in every shell, and its examples are true."""

import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ingest_service.cli import _LOCAL, _REMOTE, cli
from ingest_service.client import IngestClient
from tests.cli.support import Run
from tests.client.test_imports import SERVER

COMMANDS = [*_REMOTE, *_LOCAL]


def command(name: str) -> click.Command:
    """Return a command."""
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def examples(*names: str) -> list[str]:
    """Return the examples at the end of a command's help."""
    shown = CliRunner().invoke(cli, [*names, "--help"]).stdout
    return re.findall(r"^    (ingest-service .*)$", shown.partition("Examples:")[2], re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_two_examples_that_parse(name: str) -> None:
    found = examples(name)
    assert len(found) == 2
    for each in found:
        words = shlex.split(each)
        assert words[:2] == ["ingest-service", name]
        context = command(name).make_context(name, words[2:], resilient_parsing=False)
        assert context.params


@pytest.mark.parametrize("name", ["new", "list", "revoke", "rotate"])
def test_so_does_the_help_of_what_is_done_with_keys(name: str) -> None:
    keys = command("keys")
    assert isinstance(keys, click.Group)
    found = examples("keys", name)
    assert len(found) == 2
    for each in found:
        words = shlex.split(each)[2:]
        words = words[2:] if words[0] == "--file" else words
        assert words[0] == name
        keys.commands[name].make_context(name, words[1:], resilient_parsing=False)


@pytest.mark.parametrize("name", ["serve", "export", "import"])
def test_where_a_journal_can_be_a_database_the_help_says_so(name: str) -> None:
    (option,) = (each for each in command(name).params if each.name == "journal")
    assert isinstance(option, click.Option)
    assert "postgresql://..." in (option.help or "")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_help_says(name: str) -> None:
    listed = ({**_REMOTE, **_LOCAL})[name][1].rstrip(".")
    text = (command(name).help or "").split(".")[0].replace("\n", " ")
    assert listed.split()[0] == text.split()[0]


def test_help_loads_nothing_of_the_server() -> None:
    """That of no command; one after the other, and whoever is the first to load it is named."""
    code = (
        "import sys\nfrom ingest_service.cli import cli\n"
        f"for words in {[[], *([name] for name in COMMANDS)]!r}:\n"
        "    cli.main([*words, '--help'], standalone_mode=False)\n"
        f"    loaded = [name for name in sys.modules if name.split('.')[0] in {SERVER!r}"
        " or name.startswith(('ingest_service.web', 'ingest_service.app', 'rich'))]\n"
        "    if loaded:\n"
        "        sys.exit(f'{words} {loaded}')"
    )
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("Examples:") == 1 + len(COMMANDS)


def test_help_comes_at_once() -> None:
    """Counted in time of the processor, of which others may take a share."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "ingest_service", "--help"], capture_output=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell: str) -> None:
    environment = {**os.environ, "_INGEST_SERVICE_COMPLETE": f"{shell}_complete"}
    environment |= {"COMP_WORDS": "ingest-service s", "COMP_CWORD": "1"}
    if shell == "fish":
        environment["COMP_CWORD"] = "s"
    ran = subprocess.run(
        [sys.executable, "-m", "ingest_service"],
        env=environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert {"submit", "status", "serve"} <= set(re.findall(r"\w+", ran.stdout))


def test_the_examples_of_a_service_run(
    run: Run, client: IngestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an ingestion of their own in place of the one they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("1\n2\n")
    for name in _REMOTE:
        for example in examples(name):
            client.resume()
            ingestion = client.submit(ids=[1, 2], priority="LOW")
            ingestion.wait(timeout=20)
            if name in ("cancel", "move"):
                client.pause("tests")
                ingestion = client.submit(ids=[1, 2], priority="LOW")
            words = [
                re.sub(r"^0056f4ac.*", ingestion.ingestion_id, word)
                for word in shlex.split(example)
            ]
            words += {"top": ["--times", "1"], "cancel": ["--yes"]}.get(name, [])
            ran = run(*words[1:])
            assert ran.exit_code == 0, (example, ran.output)
    assert (tmp_path / "out.csv").read_text().startswith("id,")
