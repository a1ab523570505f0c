"""The command submits a million ids from a file, beside curl that posts the same as JSON."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import Row, Table, seconds, size, take_turns
from benchmarks._server import serving

ITEMS = 1_000_000
ROUNDS = 5
#: Most memory that the command may take, in bytes.
ROOM = 100 * 2**20


def tables() -> Iterator[Table]:
    """Measure the command as a user starts it: a process of its own."""
    if shutil.which("curl") is None:
        print("curl is not installed; submit is left out")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "ids.txt").open("w") as lines, (folder / "body.json").open("w") as body:
            body.write('{"priority":"LOW","ids":[1')
            lines.write("1\n")
            for number in range(2, ITEMS + 1):
                lines.write(f"{number}\n")
                body.write(f",{number}")
            body.write("]}")
        settings = {
            "journal": folder / "journal.sqlite3",
            "interval": 86_400,
            "max_queued_items": 10**9,
        }
        with serving(folder, settings) as server:
            url = f"http://127.0.0.1:{server.port}"
            command = [sys.executable, "-m", "ingest_service", "submit", "-p", "LOW", "--url", url]
            curl = ["curl", "-sf", "-H", "Content-Type: application/json", f"{url}/ingest"]
            command += ["-f", str(folder / "ids.txt")]
            taken = take_turns(
                lambda: _run(command),
                lambda: _run([*curl, "--data-binary", f"@{folder / 'body.json'}"]),
                rounds=ROUNDS,
            )
            peak = _peak(command)
    yield Table(
        f"Submitting {ITEMS:,} ids from a file",
        seconds,
        [Row("ingest-service submit -f", taken[0], "curl, the same as JSON", taken[1], 1.5)],
    )
    yield Table(
        "Peak memory of that",
        size,
        [Row("ingest-service submit -f", peak, "what it may take", ROOM, 1.0)],
    )


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


#: The peak of a program is at least that of the one that starts it, so that has to be a small one.
_STARTER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _peak(command: list[str]) -> int:
    """Run a program to its end; return its peak of memory in bytes."""
    starter = [sys.executable, "-c", _STARTER, *command]
    told = subprocess.run(starter, stdout=subprocess.PIPE, check=True, text=True)
    return int(told.stdout) * 1024
