#!/usr/bin/env python3
"""One target under atheris (libFuzzer): `engine.py --target=NAME [libFuzzer options and corpus folders]`.

`tests/fuzz/run` starts it. The file is executable because libFuzzer, when it merges corpora, starts it by its path.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
TARGET = "--target="
"""An option with two dashes: libFuzzer passes it over and hands it on."""


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=["spa_protocol", "spa_server"]):
        from tests.fuzz.targets import TARGETS
    name = next(word.removeprefix(TARGET) for word in sys.argv if word.startswith(TARGET))
    atheris.Setup([str(Path(__file__).resolve()), *sys.argv[1:]], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
