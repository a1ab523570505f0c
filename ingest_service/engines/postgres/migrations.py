"""The schema: brought up to date by a command, checked when a process starts."""

from typing import LiteralString

import psycopg
from procrastinate import App, SyncPsycopgConnector

from ingest_service.engines.postgres.database import Connection
from ingest_service.engines.postgres.statements import MIGRATIONS, VERSION
from ingest_service.errors import JournalOutdated, JournalUnreachable, JournalUnusable

#: Whoever migrates holds this lock: "ingest".
_LOCK = 0x696E67657374


def migrate(conninfo: str) -> str:
    """Bring the schema up to date, ours and the engine's; return what was done, in words."""
    with connected(conninfo) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        before = _version(connection)
        _refuse_newer(before)
        if before == VERSION:
            return f"The schema is up to date ({VERSION})."
        if before == 0:
            connection.execute("CREATE TABLE schema (version integer NOT NULL)")
            connection.execute("INSERT INTO schema VALUES (0)")
            connection.execute(_engine_schema())
        for step in range(before + 1, VERSION + 1):
            connection.execute(MIGRATIONS[str(step)])
        connection.execute("UPDATE schema SET version = %s", [VERSION])
        connection.commit()
    return f"The schema is at {VERSION} now; it was at {before}."


def check_schema(conninfo: str) -> str:
    """Return in words that the schema is right; raise `JournalUnusable` if it is not."""
    with connected(conninfo) as connection:
        return check_version(connection)


def check_version(connection: Connection) -> str:
    """Do the same for whoever is connected."""
    version = _version(connection)
    _refuse_newer(version)
    if version < VERSION:
        state = f"has the schema {version}" if version else "has no schema yet"
        raise JournalOutdated(
            f"The database {state}, this version needs {VERSION}: "
            "run `python -m ingest_service migrate`."
        )
    return f"The schema is up to date ({VERSION})."


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise JournalUnusable(
            f"The database has the schema {version} of a newer version, this one knows {VERSION}: "
            "upgrade the service."
        )


def connected(conninfo: str) -> Connection:
    """Connect; raise `JournalUnreachable` if that is not possible."""
    try:
        return psycopg.connect(conninfo)
    except psycopg.OperationalError as error:
        # The first line says it; it names the server and never the password.
        reason = str(error).strip().splitlines()[0]
        raise JournalUnreachable(f"The database cannot be reached: {reason}") from None


def _version(connection: Connection) -> int:
    known = connection.execute("SELECT to_regclass('schema')").fetchone()
    if known is None or known[0] is None:
        return 0
    row = connection.execute("SELECT version FROM schema").fetchone()
    return int(row[0]) if row else 0


def _engine_schema() -> LiteralString:
    return App(connector=SyncPsycopgConnector()).schema_manager.get_schema()
