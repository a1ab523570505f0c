"""What these tests share."""

import os


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of ours, but for `more`."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}
    return ours | more
