"""The report: what was measured, on what, in a table for people and in JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Ratio, Series
from benchmarks.machine import machine, versions

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Section:
    """One question, its series, and how ours compares. `notes` are sentences."""

    title: str
    series: Sequence[Series]
    ratios: Sequence[Ratio] = ()
    notes: Sequence[str] = ()


@dataclass(slots=True)
class Report:
    """Everything of one run."""

    command: str
    sections: list[Section] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    begun: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ"))
    machine: dict[str, str] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=versions)

    def write(self) -> None:
        """Replace the last report in benchmarks/results."""
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "latest.md").write_text(self.markdown(), encoding="utf-8")
        (FOLDER / "latest.json").write_text(self.json(), encoding="utf-8")

    def markdown(self) -> str:
        """The whole report as text; it reads well in a terminal too."""
        lines = ["# Benchmark", "", f"`{self.command}`, {self.begun}", ""]
        lines += [f"- {name}: {value}" for name, value in (self.machine | self.versions).items()]
        lines += [f"- {note}" for note in self.notes]
        for section in self.sections:
            lines += ["", f"## {section.title}", "", *table(section.series)]
            if section.ratios:
                lines += ["", *(f"- {_said(each)}" for each in section.ratios)]
            if section.notes:
                lines += ["", *section.notes]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """The report with every single figure."""
        sections = [
            {
                "title": section.title,
                "series": [
                    {**dataclasses.asdict(each), "summary": dataclasses.asdict(each.summary) if each.summary else None}
                    for each in section.series
                ],
                "ratios": [dataclasses.asdict(each) for each in section.ratios],
                "notes": list(section.notes),
            }
            for section in self.sections
        ]
        head = {"command": self.command, "begun": self.begun, "machine": self.machine, "versions": self.versions}
        return json.dumps({**head, "notes": self.notes, "sections": sections}, indent=1, ensure_ascii=False) + "\n"


def table(series: Iterable[Series]) -> list[str]:
    """The series as lines of a table."""
    rows = [("", "unit", "n", "median", "quartiles", "p95", "min-max", "failed")]
    for each in series:
        found = each.summary
        if found is None:
            rows.append((each.title, each.unit, "0", "-", "-", "-", "-", str(each.failed)))
            continue
        rows.append(
            (
                each.title,
                each.unit,
                str(found.count),
                _number(found.median),
                f"{_number(found.lower_quartile)}-{_number(found.upper_quartile)}",
                _number(found.p95),
                f"{_number(found.least)}-{_number(found.most)}",
                str(each.failed),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_row(row, widths) for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.ljust(width) if number == 0 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return f"| {' | '.join(padded)} |"


def _said(ratio: Ratio) -> str:
    return (
        f"{ratio.peer} took {_number(ratio.of_medians)} times as long as {ratio.ours} "
        f"(medians; in single rounds {_number(ratio.least)} to {_number(ratio.most)} times)"
    )


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
