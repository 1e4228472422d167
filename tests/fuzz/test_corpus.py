"""Every input that fuzzing kept, and every seed, through its target again: no fuzzer needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = [
    pytest.param(name, path.read_bytes(), id=f"{name}/{path.name[:8]}")
    for name in TARGETS
    for path in sorted((CORPUS / name).glob("*"))
]


@pytest.mark.parametrize(("name", "data"), INPUTS)
def test_a_kept_input_breaks_nothing(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_breaks_nothing_nor_does_any_end_cut_off_it(name: str) -> None:
    for seed in TARGETS[name].seeds:
        for size in range(0, len(seed) + 1, 1 if len(seed) < 600 else 37):
            TARGETS[name].run(seed[:size])


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for name in TARGETS:
        assert any((CORPUS / name).iterdir())
