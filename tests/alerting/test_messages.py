"""The playbook and the rules name each other."""

from __future__ import annotations

import re

import pytest

from app.alerting.rules.drift import playbook_section, severities
from app.types import Task
from tests.support.processes import ROOT

PARTS = ["Meaning", "First look", "Likely causes", "Actions", "Silence"]
RULES = {rule: severity for task in Task for rule, severity in severities(task).items()}


def sections() -> dict[str, str]:
    """Text of each section of the playbook by its anchor, as Markdown readers make it."""
    text = (ROOT / "docs" / "playbook.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].strip().lower().replace(" ", "-"): part for part in parts}


@pytest.mark.parametrize("rule", [*RULES, "a_rule_of_my_own"])
def test_every_rule_has_its_section(rule: str) -> None:
    """What an alert's ``playbook`` points at exists, and says all that its reader needs, in one order."""
    section = sections()[playbook_section(rule)]

    assert re.findall(r"^\*\*([\w ]+)\.\*\*", section, flags=re.MULTILINE) == PARTS


def test_the_overview_is_complete() -> None:
    """The table at the top names every rule with its severity, and no other."""
    text = (ROOT / "docs" / "playbook.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\[.*?) \| (\w+) \|", text, flags=re.MULTILINE)

    assert {rule: severity for rules, severity in rows for rule in re.findall(r"\[`(\w+)`\]", rules)} == RULES
