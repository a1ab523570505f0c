"""`python -m benchmarks [subject ...]`: measure and print; without a name, all subjects."""

import importlib
import os
import pkgutil
import platform
import sys
from pathlib import Path


def main(wanted: list[str]) -> int:
    """Print the tables of the subjects `wanted`; a subject is a module here with `tables()`."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    subjects = sorted(name for name in found if not name.startswith("_"))
    if unknown := set(wanted) - set(subjects):
        print(f"no subject {', '.join(sorted(unknown))}; known are {', '.join(subjects)}")
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    for subject in wanted or subjects:
        print(f"\n## {subject}")
        for table in importlib.import_module(f"benchmarks.{subject}").tables():
            print(f"\n{table}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
