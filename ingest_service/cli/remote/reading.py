"""Items from arguments and files, read piece by piece: lines, CSV, NDJSON, a JSON array."""

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

from ingest_service.client import Items, Piece

#: So much stays in the caches of a processor, and costs the kernel no pages of their own.
_BLOCK = 2**18
#: A line, or an element of an array, that is longer is none.
_LONGEST = 64 * 2**20
_PLAIN = b"0123456789\n"
#: A line that is empty, or a number that JSON does not know.
_ODD = re.compile(rb"\n[\n0]")
_ID = re.compile(r"[0-9]{1,10}")
_RANGE = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")
_AT_A_TIME = 10_000


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Give a file that is read as bytes; `-` is what comes in."""
    if path == "-":
        if sys.stdin is None:
            raise click.UsageError("There is no standard input.")
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        yield file


def items_of_words(words: Iterable[str]) -> Items:
    """Return the ids that arguments name."""
    return Items("ids", chain.from_iterable(_of_word(word, "") for word in words))


def items_of_file(file: BinaryIO, name: str, column: str | None) -> Items:
    """Return the items in a file; what it starts with tells its form."""
    if column is not None:
        return Items("ids", _of_csv(file, name, column))
    number, first = _after_space(file)
    if first.startswith(b"["):
        elements = _elements(_blocks(first, file), name)
        front = list(islice(elements, 1))
        kind = "mappings" if front and isinstance(front[0], dict) else "ids"
        return Items(kind, _of_elements(chain(front, elements), name))
    blocks = _lines(_blocks(first, file), name, number)
    if first.startswith(b"{"):
        return Items("mappings", _of_ndjson(blocks, name))
    return Items("ids", _of_lines(blocks, name))


def _after_space(file: BinaryIO) -> tuple[int, bytes]:
    """Return the first block that says something, from there on, and the number of its line."""
    number = 1
    while block := file.read(_BLOCK):
        block = block.removeprefix(b"\xef\xbb\xbf")
        text = block.lstrip()
        number += block.count(b"\n", 0, len(block) - len(text))
        if text:
            return number, text
    return number, b""


def _blocks(first: bytes, file: BinaryIO) -> Iterator[bytes]:
    yield first
    while block := file.read(_BLOCK):
        yield block


def _lines(blocks: Iterable[bytes], name: str, number: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield whole lines, many at a time: the number of the first, their text, how many."""
    rest = b""
    for block in blocks:
        whole, newline, end = (rest + block).rpartition(b"\n")
        rest = end
        if newline:
            count = whole.count(b"\n") + 1
            yield number, whole, count
            number += count
        elif len(rest) > _LONGEST:
            raise click.UsageError(f"{name}:{number}: this line is too long.")
    if rest:
        yield number, rest, 1


def _of_lines(blocks: Iterable[tuple[int, bytes, int]], name: str) -> Iterator[Piece]:
    for number, block, count in blocks:
        text = block.replace(b"\r\n", b"\n").removesuffix(b"\r") if b"\r" in block else block
        # Of such lines, which are most, no line is looked at.
        if not text.translate(None, _PLAIN) and not _is_odd(text):
            yield Piece(text.replace(b"\n", b","), count)
            continue
        for at, line in enumerate(text.split(b"\n")):
            yield from _of_word(line.decode("utf-8", "replace").strip(), f"{name}:{number + at}: ")


def _is_odd(text: bytes) -> bool:
    """Tell whether lines of digits are empty, or numbers that JSON does not know."""
    return text[:1] in (b"0", b"\n", b"") or text.endswith(b"\n") or _ODD.search(text) is not None


def _of_word(word: str, where: str) -> Iterator[Piece]:
    """Yield the ids in a word: one, some with commas between them, a range."""
    for part in filter(None, map(str.strip, word.split(","))):
        if _ID.fullmatch(part):
            yield Piece(str(int(part)).encode(), 1)
        elif (match := _RANGE.fullmatch(part)) and int(match[1]) <= int(match[2]):
            yield from _of_range(int(match[1]), int(match[2]))
        else:
            raise click.UsageError(f"{where}{part[:60]!r} is neither an id nor a range like 1-50.")


def _of_range(first: int, last: int) -> Iterator[Piece]:
    for start in range(first, last + 1, _AT_A_TIME):
        some = range(start, min(start + _AT_A_TIME, last + 1))
        yield Piece(",".join(map(str, some)).encode(), len(some))


def _of_csv(file: BinaryIO, name: str, column: str) -> Iterator[Piece]:
    # Other columns may have long texts.
    csv.field_size_limit(_LONGEST)
    text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
    rows = csv.DictReader(text)
    try:
        if column not in (rows.fieldnames or ()):
            raise click.UsageError(f"{name} has no column {column!r}.")
        for row in rows:
            yield from _of_word(row[column] or "", f"{name}:{rows.line_num}: ")
    except csv.Error as error:
        raise click.UsageError(f"{name}:{rows.line_num}: {error}.") from error
    finally:
        # The file is somebody else's to close.
        text.detach()


def _of_ndjson(blocks: Iterable[tuple[int, bytes, int]], name: str) -> Iterator[Piece]:
    for number, block, _ in blocks:
        for at, line in enumerate(block.split(b"\n")):
            if line.strip():
                yield _of_mapping(_parsed(line, f"{name}:{number + at}"), f"{name}:{number + at}")


def _parsed(text: bytes, where: str) -> Any:
    try:
        return _DECODER.decode(text.decode())
    except (ValueError, RecursionError, _NotAsMeant) as error:
        raise click.UsageError(f"{where}: this is not JSON: {error}.") from error


def _of_mapping(value: Any, where: str) -> Piece:
    if not isinstance(value, dict):
        raise click.UsageError(f"{where}: a mapping is a JSON object.")
    (piece,) = Items.of(None, [value]).pieces
    return piece


def _of_elements(elements: Iterable[Any], name: str) -> Iterator[Piece]:
    for number, value in enumerate(elements, 1):
        if isinstance(value, dict):
            yield _of_mapping(value, f"{name}, element {number}")
        else:
            yield Piece(json.dumps(value).encode(), 1)


def _elements(blocks: Iterator[bytes], name: str) -> Iterator[Any]:
    """Yield the elements of a JSON array that comes in blocks."""
    texts = _texts(blocks, name)
    buffer, at, wants_comma = next(texts, "")[1:], 0, False
    while True:
        at = _skip_space(buffer, at)
        try:
            value, end = _element(buffer, at, wants_comma=wants_comma)
        except _NotAsMeant as error:
            raise click.UsageError(f"{name}: {error}") from error
        if end is None:
            more = next(texts, None)
            if more is None or len(buffer) - at > _LONGEST:
                raise click.UsageError(f"{name} is no JSON array of ids or of mappings.")
            buffer, at = buffer[at:] + more, 0
        elif end < 0:
            if buffer[at + 1 :].strip() or any(map(str.strip, texts)):
                raise click.UsageError(f"{name}: there is something behind the array.")
            return
        else:
            yield value
            at, wants_comma = end, True


def _element(buffer: str, at: int, *, wants_comma: bool) -> tuple[Any, int | None]:
    """Return the next element and its end: -1 after the last one, None if more has to be read."""
    if buffer.startswith("]", at):
        return None, -1
    if wants_comma:
        if not buffer.startswith(",", at):
            return None, None
        at = _skip_space(buffer, at + 1)
    try:
        value, end = _DECODER.raw_decode(buffer, at)
    except (ValueError, RecursionError):
        return None, None
    # A number may go on in what was not read yet.
    return (value, end) if end < len(buffer) else (None, None)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _texts(blocks: Iterable[bytes], name: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in blocks:
            yield decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name} is not UTF-8 text.") from error


class _NotAsMeant(Exception):
    """JSON that readers understand differently: the service refuses it, so it is not repaired."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _NotAsMeant("a key appears twice in one object.")
    return value


def _constant(constant: str) -> NoReturn:
    raise _NotAsMeant(f"{constant} is not a JSON number.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
