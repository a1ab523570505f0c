"""The format of a file, as far as whoever opens it has to know it."""

from pathlib import Path
from typing import cast

import apsw

from ingest_service.engines.embedded.journals.statements import VERSION
from ingest_service.errors import JournalUnusable


def format_of(db: apsw.Connection) -> int:
    """Return the format of a file, 0 of an empty one."""
    (row,) = db.execute("PRAGMA user_version").fetchall()
    return cast(int, row[0])


def refuse_newer(version: int, path: Path) -> None:
    """Raise `JournalUnusable` for a format that this version does not know."""
    if version > VERSION:
        raise JournalUnusable(
            f"{path}: written by a newer version (format {version}, this one knows {VERSION}); "
            "upgrade the service or use another file."
        )


def check_format(db: apsw.Connection, path: Path) -> None:
    """Raise `JournalUnusable` for any format but that of this version."""
    version = format_of(db)
    refuse_newer(version, path)
    if version < VERSION:
        raise JournalUnusable(
            f"{path}: written by an older version (format {version}, this one needs {VERSION}); "
            "start the service with it once, which brings it up to date."
        )
