"""`python docs/draw_watch.py`: draw docs/watch.svg from a real run of `watch`."""

import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks._server import serving
from ingest_service.cli.remote.screens import ingestions
from ingest_service.client import IngestClient, Status

WIDTH = 88


def main() -> None:
    """Run a service, submit three requests, and draw them when the first is half done."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), {"journal": Path(folder) / "journal", "interval": 1}) as server,
        IngestClient(f"http://127.0.0.1:{server.port}") as client,
    ):
        low, medium, high = (
            client.submit(ids=range(1, count + 1), priority=priority)
            for count, priority in ((60, "LOW"), (30, "MEDIUM"), (15, "HIGH"))
        )
        for _ in medium.follow():
            statuses = [each.status() for each in (high, medium, low)]
            if statuses[1].progress >= 40:
                break
    draw(statuses)


def draw(statuses: list[Status]) -> None:
    """Write the picture that `watch` shows of `statuses`."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(ingestions(statuses))
    svg = console.export_svg(title="ingest-service watch")
    # The fonts of whoever looks at it; nothing is fetched.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!-- .*? -->", "", svg)
    Path(__file__).with_name("watch.svg").write_text(svg)


if __name__ == "__main__":
    main()
