"""The configuration: everything wrong is said at once, with its line; nothing secret is shown.

Nothing is undocumented.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from app.config.fields import Duration
from app.config.loader import effective, load_config
from app.config.settings import Config
from app.errors import ConfigError
from docs.generate_configuration import page

ROOT = Path(__file__).parents[2]


def errors(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """The lines that a configuration file is refused with, without its folder."""
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {f"PLUMBLINE__{name}": value for name, value in environ.items()})
    return [line.replace(f"{tmp_path}/", "") for line in str(caught.value).splitlines()]


LAUGHS = "\n".join(["a: &a [ha]", *(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}]" for a, b in pairwise("abcdefghijk"))])
"""The billion laughs: each list holds the list before five times."""


def two_keys(name: str = "a", sha256: str = "f" * 64) -> str:
    """A configuration whose second key is like the first but for what is given."""
    first = f"  - name: a\n    sha256: {'e' * 64}\n    scopes: [read]"
    return f"auth:\n  keys:\n{first}\n  - name: {name}\n    sha256: {sha256}\n"


def leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the configuration with its description."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{path}{name}.")
        else:
            yield path + name, field.description


def paths(data: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every key of a loaded file."""
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from paths(value, f"{path}{name}.")
        else:
            yield path + name


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """An unknown key, a wrong type, a missing unit, a value out of bounds: one line each, with line, key and reason."""
    text = "\n".join(
        [
            "server:",
            "  port: eighty",
            "  prot: 80",
            "  deadline: 30",
            "drift:",
            "  every: 5 minutes",
            "  window: {rows: 3,",
            "    hours: -1}",
            "performance:",
            "  degradation: 1.5",
            "  label_delay: soon",
            "serving:",
            "  runtime: java",
            "  allow_pickle: 1",
            "store:",
            "  url: mysql://host/db",
            "alarms: {}",
        ]
    )
    found = errors(tmp_path, text)
    starts = [": ".join(line.split(": ")[:2]) for line in found]

    assert sorted(starts) == sorted(
        [
            "config.yaml:2: server.port", "config.yaml:3: server.prot", "config.yaml:4: server.deadline",
            "config.yaml:6: drift.every", "config.yaml:7: drift.window.rows", "config.yaml:8: drift.window.hours",
            "config.yaml:10: performance.degradation", "config.yaml:11: performance.label_delay",
            "config.yaml:13: serving.runtime", "config.yaml:14: serving.allow_pickle", "config.yaml:16: store.url",
            "config.yaml:17: alarms",
        ]
    )  # fmt: skip
    assert "config.yaml:3: server.prot: unknown key; did you mean port?" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "alerts: {rules: [{name: mine, metric: drift.share, wrning: 1}]}",
            "alerts.rules.0.wrning: unknown key; did you mean warning?",
        ),
        ("alerts: {retrain: {url: 'https://host', boddy: x}}", "alerts.retrain.boddy: unknown key; did you mean body?"),
        (
            "alerts: {rules: [{name: mine, metric: drift.share}]}",
            "alerts.rules.0.warning: this limit or critical is needed",
        ),
        ("alerts: {retrain: {url: 'ftp://host'}}", "alerts.retrain.url: a webhook is at https:// or http://"),
        ("alerts: {retrain: {url: 'https://${NOT_THERE}'}}", "alerts.retrain.url: the variable NOT_THERE is not set"),
    ],
)
def test_alert_settings_are_explained(tmp_path: Path, text: str, expected: str) -> None:
    """In a list and in a section that may be null too, an error names its key, and for a misspelt one the nearest."""
    assert errors(tmp_path, text) == [f"config.yaml:1: {expected}"]


@pytest.mark.parametrize(
    "text",
    [
        "alerts: {notify: [{'slack://s3cret/x': null}]}",
        "alerts: {'slack://s3cret/x': null}",
        "alerts: {retrain: {url: 'https://host', headers: {'Bearer s3cret': x}}}",
        "alerts: {retrain: {url: 'https://host', headers: {'Bearer s3cret': [1]}}}",
        "alerts: {retrain: {url: 'https://host', headers: {'Bearer s3cret': x, 'Bearer s3cret': y}}}",
        "alerts: {retrain: {url: 'https://host', headers: {'Bearer s3cret': !odd x}}}",
        f"alerts: {{retrain: {{url: 'https://host', s3cret{'0f' * 16}: x}}}}",
        "store: {'postgresql://user:s3cret@host/store': null}",
    ],
)
def test_a_secret_in_the_place_of_a_key_is_not_shown(tmp_path: Path, text: str) -> None:
    """Only what looks like a name is named; the line tells where it is."""
    found = errors(tmp_path, text)

    assert all(line.startswith("config.yaml:1: ") for line in found)
    assert "***" in str(found)
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- server", "config.yaml:1: expected sections"),
        ("server: [1]", "config.yaml:1: server: "),
        ("server: {port: 1", "config.yaml:1: is not plain YAML: "),
        ("server: !python/name:os.system 1", "config.yaml:1: server: could not determine a constructor"),
        ("server:\n  port: 1\n  port: 2", "config.yaml:3: server.port: is written twice"),
        ("[a]: 1", "config.yaml:1: a key is one word"),
        ("server: &again\n  port: *again", "config.yaml:2: is not plain YAML: an alias (`*name`) is refused"),
        (LAUGHS, "config.yaml:2: is not plain YAML: an alias (`*name`) is refused"),
        ("server:\n  host: " + "[" * 40_000, "config.yaml:2: is not plain YAML: it is nested more than 32 deep"),
        ("server: " + "{a: " * 5_000, "config.yaml:1: is not plain YAML: it is nested more than 32 deep"),
        ("drift:\n  window: {rows: " + "9" * 20_000 + "}", "config.yaml:2: drift.window.rows: "),
        ("#" * 300_000, "config.yaml: is larger than 262144 bytes"),
        ("\n\nserver: {host: \"\x01\"}", "config.yaml:3: is not plain YAML: it holds a character"),
        ("auth: {keys: [{name: a, sha256: short}]}", "config.yaml:1: auth.keys.0.sha256: "),
        (f"auth:\n  keys: [{{name: a, sha256: {'e' * 64}, scopes: [root]}}]", "config.yaml:2: auth.keys.0.scopes.0: "),
        (two_keys(), "config.yaml:6: auth.keys.1.name: is that of the key a already"),
        (two_keys(name="b", sha256="e" * 64), "config.yaml:7: auth.keys.1.sha256: is that of the key a already"),
    ],
)  # fmt: skip
def test_what_is_no_configuration(tmp_path: Path, text: str, expected: str) -> None:
    """Whatever the file holds, it is refused in one line that says where."""
    found = errors(tmp_path, text)

    assert len(found) == 1
    assert found[0].startswith(expected)


def test_findings_are_listed_up_to_a_hundred(tmp_path: Path) -> None:
    """A file full of unknown keys is refused in a hundred lines and the number of the others."""
    found = errors(tmp_path, "\n".join(f"key{number}: 1" for number in range(2_000)))

    assert len(found) == 101
    assert found[-1] == "and 1900 more"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER__PORT", "[" * 40_000),
        ("SERVER", "{port: 1, port: 2}"),
        ("SERVER__PORT", "2001-99-99"),
        ("SERVER__PORT" + "__A" * 20_000, "1"),
    ],
)
def test_what_is_no_value_of_a_variable(tmp_path: Path, name: str, value: str) -> None:
    """A variable that is too deep, repeats a key or names none is refused in one line that names it."""
    found = errors(tmp_path, "", **{name: value})

    assert len(found) == 1
    assert found[0].startswith("PLUMBLINE__SERVER")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A missing file, a folder, or bytes that are no text are not defaults in disguise."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", ".", "binary.yaml"):
        with pytest.raises(ConfigError, match=r"cannot be read|not UTF-8"):
            load_config(tmp_path / name, {})


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    """A variable changes one key, of any type and depth, and the rest of its section stays."""
    file = tmp_path / "config.yaml"
    file.write_text("server: {port: 9000, deadline: 5s}\ndrift:\n")
    variables = {
        "PLUMBLINE__SERVER__PORT": "0",
        "PLUMBLINE__DRIFT__WINDOW__ROWS": "500",
        "PLUMBLINE__SERVING__ALLOW_PICKLE": "true",
        "PLUMBLINE__SERVING__TRUSTED_TYPES": "[a.B, c.D]",
        "PLUMBLINE__STORE__URL": "postgresql+psycopg://u:p@h:5432/d",
        "OTHER": "x",
    }
    config = load_config(file, variables)

    assert (config.server.port, config.server.deadline) == (0, 5.0)
    assert (config.drift.window.rows, config.drift.window.hours) == (500, 1.0)
    assert config.serving.allow_pickle is True
    assert config.serving.trusted_types == ("a.B", "c.D")
    assert config.store.url.get_secret_value() == "postgresql+psycopg://u:p@h:5432/d"


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    """An unknown or wrong variable is an error under its own name, beside those of the file."""
    found = errors(
        tmp_path, "server: {port: x}", DRIFT__EVRY="1s", FOO="1", SERVER__HOST="", DRIFT__WINDOW__ROWS="many"
    )

    assert sorted(line.split(": ")[0] for line in found) == [
        "PLUMBLINE__DRIFT__EVRY",
        "PLUMBLINE__DRIFT__WINDOW__ROWS",
        "PLUMBLINE__FOO",
        "PLUMBLINE__SERVER__HOST",
        "config.yaml:1",
    ]


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:s3cret@h/d", "postgresql+psycopg://u:s3c%40ret@h/d?x=1", "postgresql://u:s3@cret@h/d",
     "postgresql://h/d?password=s3cret&user=u", "postgresql://h/d?user=u&sslpassword=s3cret"],
)  # fmt: skip
def test_secrets_are_masked(url: str) -> None:
    """A password never leaves the configuration, wherever the URL carries it: shown, printed or in an error."""
    config = load_config(None, {"PLUMBLINE__STORE__URL": url})
    shown = effective(config)["store"]["url"]

    assert "***" in shown
    assert not any(part in f"{shown} {config!r}" for part in ("s3cret", "s3c%40ret", "cret@"))


def test_the_file_lists_every_key_at_its_default() -> None:
    """config.yaml is the whole configuration: loading it is loading the defaults, and no key is left out or added."""
    written = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config = load_config(ROOT / "config.yaml", {})

    assert config == Config()
    assert {path for path, _ in leaves(Config)} == set(paths(written))


def test_the_effective_configuration_loads_again(tmp_path: Path) -> None:
    """What ``plumbline check`` prints is a configuration file."""
    file = tmp_path / "config.yaml"
    config = load_config(None, {"PLUMBLINE__DRIFT__EVERY": "90s", "PLUMBLINE__PERFORMANCE__LABEL_DELAY": "36h"})
    file.write_text(yaml.safe_dump(effective(config)))

    assert load_config(file, {}) == config


def test_every_key_has_its_sentence() -> None:
    """Each key says in one sentence what it means, and the page of the documentation has them all and is current."""
    keys = dict(leaves(Config))
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert [key for key, sentence in keys.items() if not sentence or not sentence.endswith(".")] == []
    assert [key for key in keys if f"| `{key}` |" not in text] == []
    assert text == page()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("1.5m", 90), ("2h", 7200), ("30d", 2_592_000), ("1w", 604_800)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    """A duration is a number and a unit, and is written back as one that means the same."""
    duration = Duration.parse(text)

    assert duration == seconds
    assert Duration.parse(str(duration)) == seconds


@pytest.mark.parametrize("text", ["10", 10, "s", "-1s", "0s", "1e3s", "1 s", "1y", "", None, True, "\u0661s"])
def test_other_durations_are_refused(text: object) -> None:
    """Without a unit, a number is a guess."""
    with pytest.raises(ValueError, match=r"unit|longer than 0"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["off", '"off"', "OFF"])
def test_the_word_off_is_a_word(tmp_path: Path, text: str) -> None:
    """YAML takes ``off`` for false; where it is one of a key's words, it is this word, in a file and in a variable."""
    file = tmp_path / "config.yaml"
    file.write_text(f"alerts: {{digest: {text}}}\nprivacy: {{features: {{email: {text}}}}}\n")

    assert load_config(file, {}).alerts.digest == "off"
    assert load_config(file, {}).privacy.features == {"email": "off"}
    assert load_config(None, {"PLUMBLINE__ALERTS__DIGEST": text}).alerts.digest == "off"
