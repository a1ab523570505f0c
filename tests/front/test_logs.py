"""Nothing waits for the log."""

import json
import os
from collections.abc import Iterator

import pytest

from ingest_service import logs


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        os.close(end)


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    read, write = pipe
    lines = logs.Lines(write)
    for n in range(100):
        lines.put(b"%d\n" % n)
    lines.flush(10)
    assert os.read(read, 10_000).split() == [b"%d" % n for n in range(100)]


def test_what_nobody_reads_is_dropped_counted_and_said(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 50)
    read, write = pipe
    lines = logs.Lines(write)
    for _ in range(3_000):
        lines.put(b"x" * 1_000 + b"\n")
    text = b""
    while b"log_lines_dropped" not in text:
        text += os.read(read, 100_000)
    *whole, said = text.splitlines()
    while not text.endswith(b"\n"):
        text += os.read(read, 100_000)
    said = next(line for line in text.splitlines() if b"dropped" in line)
    assert json.loads(said)["lines"] + len(whole) >= 100
