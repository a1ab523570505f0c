"""`python -m benchmarks [subject ...]`: measure and print; without a name, all subjects but soak.

`python -m benchmarks soak [minutes]` goes on for so many minutes, `lateness [slots]` for so many
slots. With `--json` each table is a line of JSON instead; `python -m benchmarks figures FILE` puts
what such a file says into docs/performance.md.
"""

import importlib
import os
import pkgutil
import platform
import sys
from pathlib import Path

from benchmarks import _figures

_FIGURES = "figures"
_SOAK = "soak"
#: Subjects that go on for as long as one likes.
_AS_LONG_AS_WANTED = (_SOAK, "lateness")


def main(wanted: list[str]) -> int:
    """Print the tables of the subjects `wanted`; a subject is a module here with `tables()`."""
    if wanted[:1] == [_FIGURES] and len(wanted) == 2:
        _figures.write(Path(wanted[1]))
        return 0
    as_json = "--json" in wanted
    wanted = [each for each in wanted if each != "--json"]
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    subjects = sorted(name for name in found if not name.startswith("_"))
    how_long = []
    if len(wanted) == 2 and wanted[0] in _AS_LONG_AS_WANTED:
        how_long = [int(wanted.pop())]
    if unknown := set(wanted) - set(subjects):
        print(f"no subject {', '.join(sorted(unknown))}; known are {', '.join(subjects)}")
        return 2
    if not as_json:
        print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    for subject in wanted or [each for each in subjects if each != _SOAK]:
        if not as_json:
            print(f"\n## {subject}")
        tables = importlib.import_module(f"benchmarks.{subject}").tables
        for table in tables(*how_long):
            print(table.to_json() if as_json else f"\n{table}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
