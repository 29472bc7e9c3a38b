"""The files of the project, and copies of it in which things are tried."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy(target: Path) -> list[str]:
    """Copy the files that git knows or would add; return their names, sorted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = [n for n in sorted(set(listed.stdout.splitlines())) if (ROOT / n).is_file()]
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return names
