"""The SQL, which lives in files of its own, by the names of its statements."""

from ingest_service.engines.sql_files import statements

SQL = statements(__package__, "queries.sql")
TRANSFER = statements(__package__, "transfer.sql")
MIGRATIONS = statements(__package__, "migrations.sql")
#: The format that this version writes.
VERSION = max(map(int, MIGRATIONS))
