"""The README's Python runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_readme_python(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    suggestion, accuracy = map(float, done.stdout.split())
    assert 0.001 < suggestion < 1
    assert accuracy > 0.97
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
