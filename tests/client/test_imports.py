"""A client loads nothing of the server."""

import subprocess
import sys

import pytest

SERVER = ("flask", "werkzeug", "marshmallow", "gunicorn", "apsw", "apispec", "uvloop")


@pytest.mark.parametrize(
    "program",
    [
        "import ingest_service.client",
        "import ingest_service",
    ],
)
def test_nothing_of_the_server_is_loaded(program: str) -> None:
    ours = "[name for name in sys.modules if name.split('.')[0] in %r or name in %r]"
    server = ("ingest_service.app", "ingest_service.web", "ingest_service.settings")
    code = f"{program}\nimport sys\nprint({ours % (SERVER, server)})"
    loaded = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert loaded.stdout.strip() == "[]"
