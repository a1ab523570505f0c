"""The figures in docs/performance.md: made from what a run has printed, never typed."""

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: python -m benchmarks figures FILE -->\n", "<!-- end of figures -->\n"


def write(file: Path) -> None:
    """Replace the table in the page by that of `file`, the output of a run with `--json`."""
    tables = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE} lacks {BEGIN.strip()}, or {END.strip()} after it.")
    PAGE.write_text(before + BEGIN + table(tables) + END + after, encoding="utf-8")


def table(tables: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown; what misses its aim says so."""
    machine = f"Python {platform.python_version()}, {os.cpu_count()} CPUs"
    head = ["", f"| what ({machine}) | compared with | ratio | aim |", "|---|---|---|---|"]
    rows = [_row(title["title"], row) for title in tables for row in title["rows"]]
    return "\n".join([*head, *rows, "", ""])


def _row(title: str, row: dict[str, Any]) -> str:
    cells = (
        f"{title}: {row['what']}",
        row["compared_with"],
        f"{row['ratio']:.2f}",
        " ".join(_aim(row)),
    )
    return f"| {' | '.join(cells)} |"


def _aim(row: dict[str, Any]) -> Iterator[str]:
    if row["limit"] is not None:
        yield f"at most {row['limit']:g}"
        missed = row["ratio"] > row["limit"]
    elif row["at_least"] is not None:
        yield f"at least {row['at_least']:g}"
        missed = row["ratio"] < row["at_least"]
    else:
        return
    if missed:
        yield "**missed**"
