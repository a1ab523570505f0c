"""`python -m benchmarks [subject ...]`: measure and print; without a name, all subjects but soak.

`python -m benchmarks soak [minutes]` goes on for so many minutes.
"""

import importlib
import os
import pkgutil
import platform
import sys
from pathlib import Path

from benchmarks import soak

_SOAK = "soak"


def main(wanted: list[str]) -> int:
    """Print the tables of the subjects `wanted`; a subject is a module here with `tables()`."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    subjects = sorted(name for name in found if not name.startswith("_"))
    minutes = soak.MINUTES
    if wanted[:1] == [_SOAK] and len(wanted) == 2:
        minutes = float(wanted.pop())
    if unknown := set(wanted) - set(subjects):
        print(f"no subject {', '.join(sorted(unknown))}; known are {', '.join(subjects)}")
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    for subject in wanted or [each for each in subjects if each != _SOAK]:
        print(f"\n## {subject}")
        tables = importlib.import_module(f"benchmarks.{subject}").tables
        for table in tables(minutes) if subject == _SOAK else tables():
            print(f"\n{table}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
