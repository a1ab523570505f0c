"""The SQL, which lives in files of its own, by the names of its statements."""

import re
from importlib.resources import files


def _statements(name: str) -> dict[str, str]:
    """Return the statements of a `.sql` file by the names in their headers."""
    text = files(__package__).joinpath(name).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SQL = _statements("queries.sql")
MIGRATIONS = _statements("migrations.sql")
#: The format that this version writes.
VERSION = max(map(int, MIGRATIONS))
