"""Documents must say what is true: every path and link in them exists. Prints what is wrong; exit code 1 when anything is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
PATH = re.compile(r"`((?:src|tests|docs|benchmarks|examples|tools)/[\w./-]+)`")


def problems(path: Path) -> list[str]:
    """What one document gets wrong."""
    text = path.read_text(encoding="utf-8")
    found = []
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
            found.append(f"{path.relative_to(ROOT)}: the link to {target} leads nowhere")
    for target in PATH.findall(text):
        if not (ROOT / target).exists():
            found.append(f"{path.relative_to(ROOT)}: there is no {target}")
    return found


def main() -> int:
    """Check every document that git knows."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = [problem for name in listed if (ROOT / name).exists() for problem in problems(ROOT / name)]
    print("\n".join(found) or f"{len(listed)} documents, every path and link in them exists")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
