"""`watch` and `top` in a real terminal: what is on the screen."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyte
import pytest

from ingest_service.client import PRIORITIES, IngestClient
from tests.client.support import listening
from tests.client.test_hostile_servers import STATUS
from tests.realtime import GUARD, Scripted, answer, reset

HEIGHT = 40


@dataclass
class Terminal:
    """A program in a pseudo-terminal, and what stands on its screen."""

    arguments: list[str]
    url: str
    width: int
    colour: bool = True
    kind: str = "xterm-256color"
    encoding: str = "utf-8"
    #: Where its errors go, if they do not go to the screen.
    errors: IO[bytes] | None = None
    text: bytes = b""
    _screen: pyte.Screen = field(init=False)

    def __enter__(self) -> "Terminal":
        self._screen = pyte.HistoryScreen(self.width, HEIGHT)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, self.width, 0, 0))
        environment = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith("INGEST_")
            and name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
        }
        environment |= {"TERM": self.kind, "INGEST_URL": self.url}
        environment["PYTHONIOENCODING"] = self.encoding
        if not self.colour:
            environment["NO_COLOR"] = "1"
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "ingest_service", *self.arguments],
            stdin=slave, stdout=slave, stderr=self.errors or slave, env=environment,
            start_new_session=True, preexec_fn=_begin,
        )  # fmt: skip
        os.close(slave)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(GUARD)
        os.close(self._master)

    def read(self, seconds: float = 0.05) -> bool:
        """Take in what was printed meanwhile; return whether there can be more."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            text = os.read(self._master, 65_536)
        except OSError:
            return False
        self.text += text
        self._stream.feed(text)
        return bool(text)

    def until(self, pattern: str) -> str:
        """Return the screen as soon as it shows `pattern`."""
        deadline = time.monotonic() + GUARD * 2
        while not re.search(pattern, self.screen):
            assert self.read(), self.screen
            assert time.monotonic() < deadline, self.screen
        return self.screen

    def rest_at_column(self, column: int) -> None:
        """Return as soon as the cursor is there: that is where what is typed will stand."""
        deadline = time.monotonic() + GUARD
        while self._screen.cursor.x != column:
            assert self.read(), self.screen
            assert time.monotonic() < deadline, self._screen.cursor.x

    def end(self) -> int:
        """Return the exit status, and leave the last screen."""
        while self.read(GUARD):
            pass
        return self.process.wait(GUARD)

    @property
    def screen(self) -> str:
        """What one sees."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def is_coloured(self) -> bool:
        """Whether any colour was asked for."""
        colours = rb"\x1b\[([0-9;]*;)?(3[0-7]|38;[0-9;]+|9[0-7])m"
        return re.search(colours, self.text) is not None


def _begin() -> None:
    """Be what the terminal's keys are for, also if the tests run where Ctrl-C is ignored."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def slow() -> Iterator[str]:
    """Give a service that takes its time."""
    with listening(interval=0.3, simulated_latency=0.1) as url:
        yield url


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "plain"])
@pytest.mark.parametrize("width", [80, 200])
class TestScreens:
    """At any width, with and without colour, it says the same."""

    def test_watch_shows_each_ingestion_to_its_end(
        self, slow: str, width: int, colour: bool
    ) -> None:
        with IngestClient(slow) as client:
            client.pause("tests")
            ids = [client.submit(ids=range(1, 10), priority=each).ingestion_id
                   for each in ("HIGH", "LOW")]  # fmt: skip
            with Terminal(["watch", *ids], slow, width, colour) as terminal:
                screen = terminal.until("(?s)paused.*paused")
                assert all(each in screen for each in ids)
                assert "0 %, 0 of 9 settled" in screen
                client.resume()
                screen = terminal.until(r"done about \d\d:\d\d:\d\d")
                assert re.search(r"position \d, \d batches ahead", terminal.until("position"))
                assert terminal.end() == 0
                lines = terminal.screen.splitlines()
        assert terminal.is_coloured is colour
        assert sum("100 %, 9 of 9 settled" in line for line in lines) == 2
        assert sum("succeeded at" in line for line in lines) == 2
        assert all(len(line) <= width for line in lines)

    def test_top_is_the_picture_of_the_queue(self, slow: str, width: int, colour: bool) -> None:
        with IngestClient(slow) as client:
            client.set_interval(600)
            ids = [client.submit(ids=range(1, 10), priority=each).ingestion_id
                   for each in ("HIGH", "LOW", "LOW")]  # fmt: skip
            with Terminal(["top", "--every", "0.2"], slow, width, colour) as terminal:
                screen = terminal.until(ids[2])
                assert "one batch every 600 s, policy strict" in screen
                assert re.search(r"LOW +2 +6 +18 +\d+ s", screen)
                assert re.search(r"\d\d:\d\d:\d\d +HIGH +" + ids[0], screen)
                client.pause("lunch")
                terminal.until("paused.*lunch")
                terminal.process.send_signal(signal.SIGINT)
                terminal.end()
        assert terminal.is_coloured is colour

    def test_what_a_server_says_is_shown_and_not_obeyed(self, width: int, colour: bool) -> None:
        evil = "\x1b[2J\x1b]0;owned\x07[red]\x9b31m"
        status = {**STATUS, "ingestion_id": evil, "outcome": None,
                  "why_waiting": {"code": evil, "message": evil}}  # fmt: skip
        replies = iter([status, {**status, "outcome": "succeeded"}])
        with (
            Scripted(lambda _: answer(200, next(replies))) as server,
            Terminal(["watch", "x"], f"http://127.0.0.1:{server.port}", width, colour) as terminal,
        ):
            assert terminal.end() == 0
        assert b"\x1b[2J" not in terminal.text
        assert b"\x07" not in terminal.text
        assert r"\u001b[2J\u001b]0;owned\u0007[red]\u009b31m" in terminal.screen


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("picture", ["watch", "top"])
def test_a_terminal_without_all_characters_shows_the_others(picture: str, encoding: str) -> None:
    """A narrow one, where much is cut off."""
    told = "20 \u20ac \U0001f600"
    finished = {**STATUS, "outcome": "succeeded", "priority": told}
    finished["why_waiting"] = {"code": "x", "message": told}
    waits = {"batches": 1, "items": 1, "ingestions": 1, "oldest_at": "2026-01-01T12:00:00Z"}
    queue = {
        "state": "paused", "reason": told, "interval_seconds": 5, "policy": "strict",
        "depth": dict.fromkeys(PRIORITIES, waits), "next": [],
        "in_flight": [{"ingestion_id": "x" * 99, "batch_id": "y", "items": 1, "attempt": 1}],
    }  # fmt: skip
    arguments = {"watch": ["watch", "x"], "top": ["top", "--times", "2", "--every", "0.2"]}
    with (
        Scripted(lambda request: answer(200, queue if picture == "top" else finished)) as server,
        Terminal(
            arguments[picture], f"http://127.0.0.1:{server.port}", 40, encoding=encoding
        ) as terminal,
    ):
        assert terminal.end() == 0
    assert b"20 \\u20ac \\ud83d\\ude00" in terminal.text
    assert b"Traceback" not in terminal.text


def test_what_goes_wrong_stays_on_the_screen_beside_the_picture(slow: str) -> None:
    with IngestClient(slow) as client:
        client.pause("tests")
        waits = client.submit(ids=range(1, 10), priority="LOW").ingestion_id
    with Terminal(["watch", "nope", waits, "--timeout", "0.5"], slow, 100) as terminal:
        assert terminal.end() == 5
    assert "nope:\ningest-service: Ingestion ID not found\n" in terminal.screen
    assert f"{waits} is not finished after 0.5 s; it goes on.\n" in terminal.screen
    assert terminal.screen.count("0 %, 0 of 9 settled") == 1


def test_errors_that_go_to_a_file_are_in_the_file(slow: str, tmp_path: Path) -> None:
    with (
        (tmp_path / "errors").open("wb") as file,
        Terminal(["watch", "nope"], slow, 100, errors=file) as terminal,
    ):
        assert terminal.end() == 4
    assert "Ingestion ID not found" in (tmp_path / "errors").read_text()
    assert terminal.screen == ""


def test_trying_again_is_told_beside_the_picture() -> None:
    waits = answer(200, {**STATUS, "outcome": None})
    replies = iter((waits, reset, reset, answer(200, STATUS)))
    with (
        Scripted(lambda _: next(replies)) as server,
        Terminal(["watch", "x"], f"http://127.0.0.1:{server.port}", 160) as terminal,
    ):
        assert terminal.end() == 0
    assert len(re.findall(r"^http://.* Trying again in .* s\.$", terminal.screen, re.M)) == 2
    assert terminal.screen.count("1 of 1 settled") == 1


def test_ctrl_c_leaves_the_ingestion_running_and_says_how_to_go_on(slow: str) -> None:
    with IngestClient(slow) as client:
        client.pause("tests")
        with Terminal(["submit", "1-9", "--wait"], slow, 80) as terminal:
            terminal.until("paused")
            terminal.rest_at_column(0)
            os.write(terminal._master, b"\x03")
            assert terminal.end() == 130
        (ingestion,) = client.ingestions()
        assert f"ingest-service watch {ingestion.ingestion_id}" in terminal.screen
        assert "Traceback" not in terminal.screen
        assert client.resume().state == "running"
        assert client.ingestion(ingestion.ingestion_id).wait(timeout=GUARD).outcome == "succeeded"


def test_a_terminal_that_draws_nothing_gets_lines(slow: str) -> None:
    with IngestClient(slow) as client:
        ingestion_id = client.submit(ids=[1], priority="LOW").ingestion_id
    tried = (
        (["top", "--times", "2", "--every", "0.2"], "one batch every 0.3 s"),
        (["watch", ingestion_id], f"{ingestion_id}  LOW  completed"),
    )
    for arguments, told in tried:
        with Terminal(arguments, slow, 200, kind="dumb") as terminal:
            assert terminal.end() == 0
        assert told in terminal.screen
        assert b"\x1b" not in terminal.text


def test_a_question_is_asked_at_a_terminal(slow: str) -> None:
    with IngestClient(slow) as client:
        client.pause("tests")
        ingestion = client.submit(ids=[1, 2], priority="LOW")
        for reply, status, cancelled in (("n", 1, 0), ("y", 0, 2)):
            with Terminal(["cancel", ingestion.ingestion_id], slow, 80) as terminal:
                terminal.until("Go on")
                os.write(terminal._master, reply.encode() + b"\r")
                assert terminal.end() == status
            assert ingestion.status().counts.cancelled == cancelled


def test_ctrl_c_at_a_question_is_what_it_is_elsewhere(slow: str) -> None:
    with IngestClient(slow) as client:
        client.pause("tests")
        ingestion = client.submit(ids=[1, 2], priority="LOW")
        with Terminal(["cancel", ingestion.ingestion_id], slow, 80) as terminal:
            terminal.until("Go on")
            os.write(terminal._master, b"\x03")
            assert terminal.end() == 130
        assert "Aborted" not in terminal.screen
        assert ingestion.status().counts.cancelled == 0
