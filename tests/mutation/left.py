"""The changes that no test noticed, held against those that are explained; 1 when there is another.

`python -m tests.mutation.left FILE`, where FILE has a line for each: the name and what became of it. An entry of
`explained.txt` is the lines that the change takes away and puts in, and above them, after `#`, why it lets nobody in.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXPLAINED = Path(__file__).with_name("explained.txt")


def main() -> int:
    """Compare, and print what is new."""
    explained = _explained(EXPLAINED.read_text())
    names = [line.split()[0] for line in Path(sys.argv[1]).read_text().splitlines()]
    unexplained = []
    for name in names:
        change = _change(name)
        if change not in explained:
            unexplained.append(f"{name}\n{change}")
    print(f"{len(names)} changes were not noticed, {len(names) - len(unexplained)} of them are explained")
    print("\n\n".join(unexplained))
    return 1 if unexplained else 0


def _change(name: str) -> str:
    shown = subprocess.run(["mutmut", "show", name], capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    return "\n".join(line[0] + line[1:].strip() for line in lines)


def _explained(text: str) -> set[str]:
    entries = (part.splitlines() for part in text.split("\n\n"))
    return {"\n".join(line for line in entry if line and not line.startswith("#")) for entry in entries}


if __name__ == "__main__":
    sys.exit(main())
