"""Each policy of docs/policy.md: its cases hold, and with any attribute of the context missing it lets nobody in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from spa_server.decide import policy as policy_module
from spa_server.decide import vocabulary
from spa_server.decide.context import Context
from spa_server.decide.policy import Outcome, Policy
from spa_server.decide.vocabulary import Action
from spa_server.policy_case import Case, read_cases
from spa_server.service import Service
from spa_server.service_table import read_services
from tests.server.decide.test_policy import paths, without

DOCUMENT = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
BLOCKS = re.findall(r"### (\d+)\. ([^\n]+)\n.*?```cedar\n(.*?)```\n\n```toml\n(.*?)```", DOCUMENT, re.DOTALL)
ROLES = BLOCKS[0][2]


def services() -> tuple[Service, ...]:
    import tomllib

    found = re.search(r"```toml\n(\[service.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    problems: list[Any] = []
    read = read_services(tomllib.loads(found[1])["service"], problems)
    assert problems == []
    return read


SITE = services()


def test_there_are_ten() -> None:
    assert [int(number) for number, *_ in BLOCKS] == list(range(1, 11))


def policy_of(number: int) -> Policy:
    text = BLOCKS[number - 1][2]
    policy = Policy(text if number == 1 else ROLES + text, SITE)
    assert policy.unknown == ()
    return policy


def cases_of(number: int, folder: Path) -> tuple[Case, ...]:
    path = folder / "cases.toml"
    path.write_text(BLOCKS[number - 1][3])
    return read_cases(path)


@pytest.mark.parametrize("number", range(1, 11))
def test_its_cases_hold(number: int, tmp_path: Path) -> None:
    policy = policy_of(number)
    failures = {case.name: case.failure(policy) for case in cases_of(number, tmp_path)}
    assert set(failures.values()) == {""}, failures


@pytest.mark.parametrize("number", range(1, 11))
def test_with_any_attribute_of_the_context_missing_it_lets_nobody_in(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, cases = policy_of(number), cases_of(number, tmp_path)
    asked = vocabulary.question(cases[0].context, cases[0].service, Action.OPEN)["context"]
    assert isinstance(asked, dict)
    for path in paths(asked):

        def spoilt(context: Context, service: str, action: Action, path: tuple[str, ...] = path) -> dict[str, object]:
            whole: dict[str, Any] = dict(vocabulary.question(context, service, action))
            return {**whole, "context": without(whole["context"], path)}

        with monkeypatch.context() as patch:
            patch.setattr(policy_module, "question", spoilt)
            for case in cases:
                assert policy.judge(case.context, case.service, case.action).outcome is Outcome.FAULT, (path, case.name)
