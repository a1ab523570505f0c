"""On one machine nothing of PostgreSQL is needed, nor loaded."""

import subprocess
import sys
from pathlib import Path

SERVED = """
import sys
from ingest_service.app import create_app
from ingest_service.settings import Settings
app = create_app(Settings())
assert app.test_client().post("/ingest", json={"ids": [1], "priority": "LOW"}).status_code == 200
app.extensions["ingest_parts"].close(0)
print([name for name in ("psycopg", "psycopg_pool", "procrastinate") if name in sys.modules])
"""


def test_the_service_loads_nothing_of_postgresql(tmp_path: Path) -> None:
    loaded = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SERVED],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert loaded.stdout.strip() == "[]"
