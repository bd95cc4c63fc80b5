"""`make bench`: every benchmark that needs nothing but this project, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ALONE = ("loop", "chapter13", "watch_overhead", "watch_growth", "trace", "diagnose", "ratings_rows")


def main() -> int:
    """Run them; the exit code is the number of those that failed."""
    folder = Path(__file__).parent
    failed = 0
    for name in ALONE:
        script = folder / f"{name}.py"
        print(f"== {name}", flush=True)
        failed += subprocess.run([sys.executable, str(script)], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
