"""What the subjects share: taking turns, and a table of ratios."""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter

from flask.testing import FlaskClient

from ingest_service.app import build, create_app
from ingest_service.domain.policy import Policy
from ingest_service.settings import Settings

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Row:
    """One thing compared with another."""

    what: str
    figure: float
    compared_with: str
    reference: float
    #: The ratio aimed at, at most; None where the row only informs.
    limit: float | None = None
    #: The ratio aimed at, at least; for figures of which more is better.
    at_least: float | None = None

    @property
    def ratio(self) -> float:
        """How many times the reference the figure is."""
        return self.figure / self.reference


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one question."""

    title: str
    #: Turns a figure into text with its unit.
    unit: Callable[[float], str]
    rows: Sequence[Row]

    def __str__(self) -> str:
        """Return the table as Markdown, so that it can be pasted."""
        head = ("what", "measured", "compared with", "measured", "ratio", "aim")
        cells = [head, *(self._cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        padded = [
            [text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in cells
        ]
        rule = ["-" * width for width in widths]
        lines = (f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:]))
        return "\n".join((f"### {self.title}", "", *lines))

    def to_json(self) -> str:
        """Return the table as one line for programs."""
        rows = [asdict(row) | {"ratio": row.ratio} for row in self.rows]
        return json.dumps({"title": self.title, "rows": rows})

    def _cells(self, row: Row) -> tuple[str, ...]:
        aim = "" if row.limit is None else f"at most {row.limit:g}"
        if row.at_least is not None:
            aim = f"at least {row.at_least:g}"
        figures = self.unit(row.figure), self.unit(row.reference)
        return row.what, figures[0], row.compared_with, figures[1], f"{row.ratio:.2f}", aim


def seconds(value: float) -> str:
    """Return a duration with a unit that suits it."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def size(value: float) -> str:
    """Return a number of bytes."""
    return f"{value:.1f} B" if value < 10_000 else f"{value / 2**20:.1f} MiB"


def take_turns(*calls: Callable[[], object], rounds: int) -> list[float]:
    """Return the median duration of each call; whatever slows the machine slows all of them."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, durations in zip(calls, taken, strict=True):
            began = perf_counter()
            call()
            durations.append(perf_counter() - began)
    return [statistics.median(durations) for durations in taken]


def idle_service(policy: Policy = Policy.STRICT) -> AbstractContextManager[FlaskClient]:
    """Give a client of a service, in this process, that accepts and sends nothing meanwhile."""
    return _service(Settings(interval=_DAY, settle=_DAY, policy=policy.value))


def busy_service() -> AbstractContextManager[FlaskClient]:
    """Give a client of a service that sends as fast as it can, to an API that takes no time."""
    return _service(Settings(interval=0, settle=0, simulated_latency=0))


@contextmanager
def _service(settings: Settings) -> Iterator[FlaskClient]:
    parts = build(settings)
    parts.worker.start()
    try:
        yield create_app(settings, parts).test_client()
    finally:
        parts.worker.stop()
