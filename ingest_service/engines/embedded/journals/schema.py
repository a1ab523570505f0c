"""The format of a file: brought up to date and looked through when it is opened."""

from pathlib import Path

import apsw

from ingest_service.engines.embedded.journals.files import copy_into
from ingest_service.engines.embedded.journals.formats import format_of, refuse_newer
from ingest_service.engines.embedded.journals.statements import MIGRATIONS, VERSION
from ingest_service.errors import JournalUnusable


def migrate(db: apsw.Connection, path: Path) -> None:
    """Bring the file to the format of this version; keep a copy of one of an older format."""
    version = format_of(db)
    refuse_newer(version, path)
    if 0 < version < VERSION:
        _keep_copy(db, path, version)
    create(db, version)


def create(db: apsw.Connection, version: int = 0) -> None:
    """Take the steps that lead from `version` to the format of this version."""
    for step in range(version + 1, VERSION + 1):
        with db:
            db.execute(MIGRATIONS[str(step)]).fetchall()
            db.execute(f"PRAGMA user_version = {step}")


def _keep_copy(db: apsw.Connection, path: Path, version: int) -> None:
    """Write what `restore` takes for whoever goes back to the version before."""
    copy = path.with_name(f"{path.name}.before-{version}")
    # Under another name first: half a copy, left by a crash, is not one.
    unfinished = copy.with_name(copy.name + ".new")
    try:
        unfinished.unlink(missing_ok=True)
        copy_into(db, unfinished)
        unfinished.replace(copy)
    except OSError as error:
        raise JournalUnusable(
            f"{copy}: the copy before the upgrade cannot be written ({error.strerror})."
        ) from error


def check_content(db: apsw.Connection, path: Path) -> None:
    """Look for damage, as far as that does not delay the start."""
    if path.exists() and path.stat().st_size > 64 * 2**20:
        return
    findings = [str(text) for (text,) in db.execute("PRAGMA quick_check(1)")]
    if findings != ["ok"]:
        raise apsw.CorruptError(findings[0])
