"""What a body asks to be built is known before it is built."""

from collections.abc import Iterator
from itertools import product

import pytest

from ingest_service.web import weight


def _exactly(text: bytes) -> list[int]:
    counts = [0, 0, 0, 0]
    letters = iter(text.decode())
    inside = False
    for letter in letters:
        if inside and letter == "\\":
            next(letters, None)
        elif letter == '"':
            inside = not inside
        elif not inside and letter in "[{,:":
            counts["[{,:".index(letter)] += 1
    return counts


def _texts() -> Iterator[bytes]:
    for length in range(7):
        yield from ("".join(each).encode() for each in product('"\\[,', repeat=length))


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_marks_within_strings_do_not_count(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight, "_WINDOW", window)
    for text in _texts():
        counts = [[0, 0, 0, 0], *map(list, weight._outside_strings(text))][-1]
        assert counts == _exactly(text), text


@pytest.mark.parametrize(
    ("body", "heavy"),
    [
        (b"[" + b"[]," * 500_000 + b"[]]", True),
        (b"[" + b'"a",' * 500_000 + b"1]", True),
        (b'{"x": "' + b"[," * 500_000 + b'"}', False),
        (b'{"ids": [' + b"1," * 10_000 + b"1]}", False),
    ],
)
def test_a_body_is_weighed_by_its_items(body: bytes, heavy: bool) -> None:
    assert weight.is_too_heavy(body, 10_000) is heavy
