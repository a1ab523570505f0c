"""How many mutants were seen by the tests, of those that `mutmut` made: at least 85 %."""

import json
import sys
from pathlib import Path

STATS = Path("mutants/mutmut-cicd-stats.json")
LEAST = 0.85


def main() -> None:
    """Print the share; fail if it is too small."""
    stats = json.loads(STATS.read_text(encoding="utf-8"))
    # What never ends was seen as well.
    seen = stats["killed"] + stats["timeout"]
    sys.stdout.write(f"{seen} of {stats['total']} mutants were seen: {seen / stats['total']:.1%}\n")
    if seen < LEAST * stats["total"]:
        sys.exit(f"That is less than {LEAST:.0%}.")


if __name__ == "__main__":
    main()
