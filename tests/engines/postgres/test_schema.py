"""The schema: made by whoever comes first, refused in words if it is another one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ingest_service.engines.postgres.database import connection_string
from ingest_service.engines.postgres.migrations import check_schema, migrate
from ingest_service.errors import JournalOutdated, JournalUnreachable, JournalUnusable
from tests.postgres import empty_database


@pytest.fixture
def empty(database: str) -> Iterator[str]:
    """Give a database without a schema."""
    with empty_database(database) as address:
        yield address


def test_all_at_once_make_it_once(empty: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(migrate, [empty] * 6))

    assert sorted(answers)[0] == "The schema is at 2 now; it was at 0."
    assert set(answers) == {"The schema is at 2 now; it was at 0.", "The schema is up to date (2)."}
    assert check_schema(empty) == "The schema is up to date (2)."


def test_without_one_nothing_starts(empty: str) -> None:
    with pytest.raises(JournalOutdated, match="has no schema yet"):
        check_schema(empty)


def test_a_newer_one_is_refused_in_words(empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty) as connection:
        connection.execute("UPDATE schema SET version = 99")
    for look in (check_schema, migrate):
        with pytest.raises(JournalUnusable, match="the schema 99 of a newer version"):
            look(empty)


def test_a_server_that_is_not_there_is_named_and_the_password_is_not() -> None:
    address = "postgresql://ingest:secret@127.0.0.1:1/nothing"
    with pytest.raises(JournalUnreachable, match="cannot be reached") as caught:
        check_schema(address)
    assert "secret" not in str(caught.value)


def test_the_password_comes_from_a_file(tmp_path: object) -> None:
    file = f"{tmp_path}/password"
    with open(file, "w") as stream:
        stream.write("se cret\n")
    values = connection_string("postgresql://ingest@host/database", file)
    assert "password='se cret'" in values
    with pytest.raises(JournalUnusable, match="cannot be read"):
        connection_string("postgresql://ingest@host/database", f"{tmp_path}/another")
