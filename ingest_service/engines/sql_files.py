"""SQL in files: statements by the names in their headers."""

import re
from importlib.resources import files


def statements(package: str, name: str) -> dict[str, str]:
    """Return the statements of a `.sql` file of `package`; `-- name: x` begins each."""
    text = files(package).joinpath(name).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
