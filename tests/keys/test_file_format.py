"""The keys file: what it takes, and in which words it refuses."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.model import Priority
from ingest_service.errors import SettingsError
from ingest_service.keys.file_format import KeysFileError, parse_keys, read_keys
from ingest_service.keys.key import Key, digest_of
from ingest_service.keys.scope import Scope
from tests.keys.support import secret, table, write

#: What is wrong with a file, the line that is named, and words that help.
WRONG = [
    ("[[keys]]\nname = a\n", 2, "not TOML"),
    ("\ufeff" + table("a", secret()), 1, "byte order mark"),
    ("\n[keys]\nname = 'a'\n", 1, "[[keys]]"),
    ("keys = [{name = 'a'}]\n", 1, "[[keys]]"),
    ("keys = 3\n", 1, "[[keys]]"),
    ("[[key]]\nname = 'a'\n", 1, "[[keys]]"),
    ("x = " + "[" * 5_000, 1, "nested"),
    ("x = " + "1" * 5_000, 1, "too long"),
    (table("a", secret()).replace('name = "a"\n', ""), 1, "no `name`"),
    (table("a b", secret()), 2, "`name` must be"),
    (table("a", secret()).replace('"a"', "7"), 2, "`name` must be"),
    (table("a", secret(), scopes='["submit", "write"]'), 4, "submit, read, operate, metrics"),
    (table("a", secret(), scopes='["open"]'), 4, "submit, read, operate, metrics"),
    (table("a", secret(), scopes="[]"), 4, "one or more"),
    (table("a", secret(), scopes='"read"'), 4, "a list"),
    (table("a", secret()).replace(digest_of(secret()).hex(), "9f86d0818"), 3, "64 hexadecimal"),
    (table("a", secret()).replace(digest_of(secret()).hex(), secret()), 3, "64 hexadecimal"),
    (table("a", secret(), 'max_priority = "URGENT"'), 5, "HIGH, MEDIUM, LOW"),
    (table("a", secret(), "max_priority = 1"), 5, "HIGH, MEDIUM, LOW"),
    (table("a", secret(), "requests_per_minute = 0"), 5, "from 1 to 60000"),
    (table("a", secret(), "requests_per_minute = true"), 5, "from 1 to 60000"),
    (table("a", secret(), "max_queued_items = 1.5"), 5, "whole number"),
    (table("a", secret(), 'own_only = "yes"'), 5, "true or false"),
    (table("a", secret(), "expires_at = 2027-01-01T00:00:00"), 5, "time zone"),
    (table("a", secret(), "expires_at = 2027-01-01"), 5, "time zone"),
    (table("a", secret(), "expires_at = 9999-12-31T23:59:59-01:00"), 5, "time zone"),
    (table("a", secret(), "expires_at = 0001-01-01T00:00:00+01:00"), 5, "time zone"),
    (table("a", secret(), "own_onyl = true"), 5, "own_only"),
    (table("a", secret(), "own_only.x = true"), 5, "true or false"),
    (table("a", secret(1)) + table("a", secret(2)), 5, "another key has this name"),
    (table("a", secret(1)) + table("b", secret(1)), 5, "same `sha256`"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_refused_with_its_line_and_what_is_allowed(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_keys(write(tmp_path / "keys.toml", text))
    (said,) = str(refusal.value).splitlines()
    assert said.startswith(f"INGEST_API_KEYS_FILE={str(tmp_path / 'keys.toml')!r}: line {line}: ")
    assert words in said
    assert secret() not in said


def test_the_key_is_named_that_is_wrong() -> None:
    with pytest.raises(KeysFileError, match="line 5: key 'second': it has no `scopes`"):
        parse_keys(table("first", secret(1)) + table("second", secret(2)).replace("scopes", "# "))


def test_what_is_written_is_what_is_granted() -> None:
    (key,) = parse_keys(
        table(
            "nightly-import",
            secret(),
            'max_priority = "MEDIUM"',
            "requests_per_minute = 600",
            "max_queued_items = 1_000_000",
            "own_only = true",
            "expires_at = 2027-01-01T01:00:00+01:00",
        ).replace("\n", "\r\n")
    )
    assert key == Key(
        name="nightly-import",
        digest=digest_of(secret()),
        scopes=frozenset({Scope.SUBMIT, Scope.READ}),
        max_priority=Priority.MEDIUM,
        requests_per_minute=600,
        max_queued_items=1_000_000,
        own_only=True,
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )


def test_a_key_that_is_replaced_may_have_the_name_of_its_successor() -> None:
    old = table("a", secret(1), "expires_at = 2027-01-01T00:00:00Z")
    assert [key.name for key in parse_keys(old + table("a", secret(2)))] == ["a", "a"]


def test_a_file_without_keys_lets_nobody_in_and_is_right() -> None:
    assert parse_keys("# none yet\n") == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.toml"
    write(path, table("a", secret()))
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_keys(str(path))


def test_what_systemd_keeps_for_the_service_alone_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An access list shows as rights of the group."""
    path = tmp_path / "keys.toml"
    write(path, table("a", secret()))
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert [key.name for key in read_keys(str(path))] == ["a"]


@pytest.mark.parametrize("content", [b"\xff", b"# " + b"x" * 2**20], ids=["no text", "large"])
def test_what_is_no_text_or_very_large_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.toml"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"UTF-8|larger than"):
        read_keys(str(path))


VALUES = st.one_of(
    st.text(max_size=8),
    st.integers(),
    st.booleans(),
    st.floats(),
    st.just(digest_of(secret()).hex()),
    st.sampled_from(("HIGH", "LOW", ["read"], ["submit", "read"], ["nothing"], [], [[]])),
)
FIELDS = st.sampled_from(
    ("name", "sha256", "scopes", "max_priority", "own_only", "max_queued_items", "x", "é")
)
LINES = st.one_of(
    st.just("[[keys]]"),
    st.just("# a comment"),
    st.text(max_size=12),
    st.tuples(FIELDS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]!r}".replace("True", "true")),
    st.sampled_from(table("a", secret()).splitlines()),
)


@given(st.lists(LINES, max_size=14).map("\n".join))
def test_any_text_is_either_keys_or_refused_in_one_line(text: str) -> None:
    keys: tuple[Key, ...] = ()
    said = "line 1: nothing is wrong"
    try:
        keys = parse_keys(text)
    except KeysFileError as error:
        said = str(error)
    place = re.fullmatch(r"line ([0-9]+): .+", said)
    assert place is not None
    assert 1 <= int(place[1]) <= len(text.split("\n"))
    assert len(keys) == len({key.digest for key in keys})
    assert all(key.scopes and Scope.OPEN not in key.scopes for key in keys)
