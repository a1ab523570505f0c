"""Changing a keys file: what an operator wrote stays, and nobody reads half of it."""

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.model import Priority
from ingest_service.errors import SettingsError
from ingest_service.keys import editing
from ingest_service.keys.file_format import GRANTED, MOST_A_MINUTE, MOST_ITEMS, read_keys
from ingest_service.keys.key import KEY, NAME, Key, digest_of, fresh_key
from ingest_service.keys.scope import Scope
from tests.keys.support import secret, table, write

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def key(name: str, number: int = 1) -> Key:
    """Return a key for reading."""
    return Key(name=name, digest=digest_of(secret(number)), scopes=frozenset({Scope.READ}))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return the name of a file that does not exist yet."""
    return str(tmp_path / "keys.toml")


def test_the_first_key_makes_a_file_that_only_its_owner_reads(path: str) -> None:
    editing.add(path, key("a"))
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert read_keys(path) == (key("a"),)


def test_comments_and_other_keys_stay_as_they_were_written(path: str) -> None:
    before = f"# ours\n\n{table('a', secret(1))}# about b\n{table('b', secret(2))}\n# the end\n"
    write(Path(path), before)
    editing.add(path, key("c", 3))
    assert Path(path).read_text().startswith(before)
    editing.revoke(path, "a")
    editing.revoke(path, "c")
    left = Path(path).read_text()
    assert left == f"# ours\n\n# about b\n{table('b', secret(2))}\n# the end\n\n"
    assert [each.name for each in read_keys(path)] == ["b"]


def test_a_name_is_given_once_and_only_known_ones_are_changed(path: str) -> None:
    editing.add(path, key("a"))
    with pytest.raises(SettingsError, match="rotate"):
        editing.add(path, key("a", 2))
    for change in (
        lambda: editing.revoke(path, "b"),
        lambda: editing.rotate(path, "b", NOW, NOW),
    ):
        with pytest.raises(SettingsError, match="there is no key 'b'; there are: a"):
            change()


def test_a_rotated_key_has_a_successor_and_ends(path: str) -> None:
    own = "own_only = true # theirs"
    write(Path(path), table("a", secret(1), own), table("b", secret(2)))
    fresh = editing.rotate(path, "a", NOW + DAY, NOW)
    old, other, successor = read_keys(path)
    assert (old.expires_at, old.digest) == (NOW + DAY, digest_of(secret(1)))
    assert (successor.name, successor.own_only, successor.expires_at) == ("a", True, None)
    assert successor.digest == digest_of(fresh)
    assert other.name == "b"
    assert own in Path(path).read_text()


def test_rotating_again_neither_lengthens_a_life_nor_keeps_the_dead(path: str) -> None:
    write(Path(path), table("a", secret(1), "expires_at = 2026-01-01T12:30:00Z"))
    editing.rotate(path, "a", NOW + DAY, NOW)
    assert read_keys(path)[0].expires_at == NOW + timedelta(minutes=30)
    editing.rotate(path, "a", NOW + 2 * DAY, NOW + timedelta(hours=1))
    assert [each.expires_at for each in read_keys(path)] == [NOW + 2 * DAY, None]


def test_a_wrong_file_is_not_changed(path: str) -> None:
    write(Path(path), "[[keys]]\nname = 7\n")
    with pytest.raises(SettingsError, match="line 2"):
        editing.add(path, key("a"))
    assert Path(path).read_text() == "[[keys]]\nname = 7\n"


def test_a_link_stays_one(path: str, tmp_path: Path) -> None:
    write(tmp_path / "real.toml", table("a", secret(1)))
    Path(path).symlink_to("real.toml")
    editing.add(path, key("b", 2))
    assert Path(path).is_symlink()
    assert len(read_keys(path)) == 2


def test_two_who_change_it_at_once_lose_nothing(path: str) -> None:
    threads = [
        threading.Thread(target=editing.add, args=(path, key(f"k{number}", number)))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.name for each in read_keys(path)} == {f"k{number}" for number in range(8)}
    assert [each.name for each in Path(path).parent.iterdir()] == ["keys.toml"]


def test_a_fresh_key_can_be_found_by_those_who_look_for_secrets() -> None:
    assert KEY.fullmatch(fresh_key())
    assert fresh_key() != fresh_key()


KEYS = st.builds(
    Key,
    name=st.from_regex(NAME, fullmatch=True),
    digest=st.binary(min_size=32, max_size=32),
    scopes=st.sets(st.sampled_from(GRANTED), min_size=1).map(
        lambda words: frozenset(Scope(word) for word in words)
    ),
    max_priority=st.sampled_from(Priority),
    requests_per_minute=st.none() | st.integers(1, MOST_A_MINUTE),
    max_queued_items=st.none() | st.integers(1, MOST_ITEMS),
    own_only=st.booleans(),
    expires_at=st.none()
    | st.integers(1, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)


@given(st.lists(KEYS, max_size=5, unique_by=(lambda key: key.name, lambda key: key.digest)))
def test_what_is_added_is_read_and_what_is_revoked_is_not(
    tmp_path_factory: pytest.TempPathFactory, keys: list[Key]
) -> None:
    path = str(tmp_path_factory.mktemp("keys") / "keys.toml")
    for each in keys:
        editing.add(path, each)
    if keys:
        assert read_keys(path) == tuple(keys)
        editing.rotate(path, keys[0].name, NOW + DAY, NOW)
        editing.revoke(path, keys[0].name)
        assert read_keys(path) == tuple(keys[1:])
