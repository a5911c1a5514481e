"""The template of a request's body."""

from __future__ import annotations

import json

import pytest

from app.alerting.retraining import BadTemplate, fill


@pytest.mark.parametrize("text", ['"', "\\", "\n", "{{ 7 * 7 }}", "</script>", "ü €", ""])
@pytest.mark.parametrize(
    "source", ['{"x": "{{ x }}"}', '{"x": {{ x | tojson }}}', '{"x": "{{ x | trim | default(x) }}"}']
)
def test_no_text_breaks_out_of_its_quotes(source: str, text: str) -> None:
    """Whatever a reason or a feature's name holds, the body is JSON with exactly this text in it."""
    found = fill(source, {"x": text})

    assert found["x"] in (text, text.strip())
    assert json.loads(json.dumps(found)) == found


def test_an_unknown_value_is_named() -> None:
    """The error says which value the template asks for, and in vain."""
    with pytest.raises(BadTemplate, match="'rows_url' is undefined"):
        fill('{"rows": "{{ rows_url }}"}', {"x": 1})


@pytest.mark.parametrize(
    "source",
    [
        "{",
        "[1]",
        '{"a": {{ missing }}}',
        '{"a": "{{ x }"}',
        '{"a": NaN}',
        '{"a": {{ 1 / 0 }}}',
        '{"a": {{ x + 1 }}}',
        "{% for i in range(10 ** 9) %}{% endfor %}",
        '{"a": "{{ x.__class__.__mro__ }}"}',
        '{"a": "{{ cycler.__init__.__globals__.os.getcwd() }}"}',
    ],
)
def test_what_is_no_body_is_refused(source: str) -> None:
    """No JSON, an unknown value, a syntax error, or a way out of the sandbox: one error, whatever it is."""
    with pytest.raises(BadTemplate):
        fill(source, {"x": "text"})
