"""`make check`: lint, format, types, the import law, and that the documents say what is true. Prints each step; the first that fails ends it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
PYTHON = [sys.executable]
STEPS = {
    "lint": [*PYTHON, "-m", "ruff", "check", "."],
    "format": [*PYTHON, "-m", "ruff", "format", "--check", "."],
    "types": [*PYTHON, "-m", "mypy"],
    "import law": [str(BIN / "lint-imports")],
    "documents": [*PYTHON, "tools/check_documents.py"],
}


def main() -> int:
    """Run every step; the exit code is the first failing step's."""
    for name, command in STEPS.items():
        started = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        print(f"{'ok' if code == 0 else 'FAILED':<7}{name}  ({time.monotonic() - started:.0f} s)", flush=True)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
