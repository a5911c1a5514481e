"""What the playbook says about a rule, cut down to what fits into a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from app.alerting.rules import playbook_section

MOST_CAUSES = 3
_PART = re.compile(r"^\*\*([^*]+)\.\*\*\s+(.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_SENTENCE_END = re.compile(r"(?<=[.?])\s+(?=[A-Z`])")


@dataclass(frozen=True)
class Playbook:
    """The playbook's text in Markdown; without one, nothing is said."""

    text: str

    def causes(self, rule: str) -> list[str]:
        """The likely causes of an alert, each a sentence."""
        return _SENTENCE_END.split(self._part(rule, "Likely causes"))[:MOST_CAUSES]

    def actions(self, rule: str) -> str:
        """What to do about an alert."""
        return self._part(rule, "Actions")

    def _part(self, rule: str, name: str) -> str:
        return self._parts.get(playbook_section(rule).replace("-", " "), {}).get(name, "")

    @cached_property
    def _parts(self) -> Mapping[str, Mapping[str, str]]:
        sections = (section.partition("\n") for section in re.split(r"^## ", self.text, flags=re.MULTILINE)[1:])
        return {
            title.strip(): {name: _plain(paragraph) for name, paragraph in _PART.findall(body)}
            for title, _, body in sections
        }


def _plain(markdown: str) -> str:
    """A paragraph on one line, its links without their targets.

    >>> _plain("See [drift](#drift) first, by `GET /drift`.")
    'See drift first, by GET /drift.'
    """
    return _LINK.sub(r"\1", " ".join(markdown.split())).replace("`", "")
