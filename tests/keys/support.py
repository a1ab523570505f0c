"""Keys and files of them."""

import os
from pathlib import Path

from ingest_service.keys.key import digest_of


def secret(number: int = 1) -> str:
    """Return a key that looks like one."""
    return f"ik_{number:08}_{'x' * 43}"


def table(name: str, key: str, *more: str, scopes: str = '["submit", "read"]') -> str:
    """Return the table of a key; `more` are further lines."""
    lines = ("[[keys]]", f'name = "{name}"', f'sha256 = "{digest_of(key).hex()}"')
    return "\n".join((*lines, f"scopes = {scopes}", *more)) + "\n"


def write(path: Path, *tables: str) -> str:
    """Make the file at `path` one of these tables, and new to whoever watches it; return it."""
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(tables))
    fresh.chmod(0o600)
    os.replace(fresh, path)
    return str(path)
