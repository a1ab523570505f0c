"""The SQL, which lives in files of its own, by the names of its statements."""

from ingest_service.engines.sql_files import statements

_PACKAGE = f"{__package__}.sql"
_FILES = ("intake", "slots", "settling", "control", "reading", "rollup", "upkeep", "transfer")

SQL = {name: text for file in _FILES for name, text in statements(_PACKAGE, f"{file}.sql").items()}
MIGRATIONS = statements(_PACKAGE, "migrations.sql")
#: The schema that this version works with.
VERSION = max(map(int, MIGRATIONS))
