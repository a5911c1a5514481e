"""No secret and no row in what a service writes and answers."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy.exc import IntegrityError, OperationalError

from app.config.loader import effective, known_secrets
from app.config.settings import Config
from app.errors import BundleError, describe_error, describe_traceback, mask_secrets
from app.serving.runtimes.skops import load_skops
from tests.api.conftest import Start
from tests.api.test_app import KEYS, keys
from tests.support.application import client_of, make_config, service_log
from tests.support.models.faulty import RAISES
from tests.support.models.tasks import Fitted
from tests.support.models.versions import NAME, ROW, build_versions

SECRET = "s3cret-value"  # noqa: S105 - what is looked for
URLS = [
    f"postgresql://h/db?password={SECRET}",
    f"postgresql+psycopg://me:{SECRET}@h/db",
    f"postgresql://me:p@{SECRET}/x@h/db",
    f"postgresql://h/db?sslmode=require&sslpassword={SECRET}",
    f"postgresql://h/db?options=-c%20x.y%3D{SECRET}",
    f"postgresql://h/db?passfile=/x&whatever={SECRET}",
    f"slack://T0000/{SECRET}/x",
    f"json://user:{SECRET}@host/path",
    f"alertmanager+https://{SECRET}@host",
    f"https://{SECRET}@host/path",
    f"https://host/path?token={SECRET}&a=b",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_masked_wherever_it_stands(url: str) -> None:
    """Passwords, parameters and channels are masked alone, in a sentence, in quotes and in JSON."""
    for text in (url, f"cannot reach {url}, giving up", f"error in '{url}'", f'{{"url": "{url}"}}'):
        assert SECRET not in mask_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        f"connection failed: host=h password={SECRET} port=1",
        f'{{"password": "{SECRET}"}}',
        f"Authorization: Bearer {SECRET}",
        f"X-API-Key: {SECRET}",
        f"client_secret = '{SECRET}'",
    ],
)
def test_what_is_named_a_secret_is_masked(text: str) -> None:
    """The value behind a name such as password or token is masked."""
    assert SECRET not in mask_secrets(text)


def test_texts_without_secrets_stay() -> None:
    """Ordinary texts, addresses and times are as they were."""
    for text in ("http://127.0.0.1:8000/docs?limit=3", "sqlite:////var/lib/x.db", "a: b", "look at GET /models"):
        assert mask_secrets(text) == text


def test_the_configuration_is_shown_without_secrets() -> None:
    """``plumbline check`` masks each of them, and the log knows each of them."""
    channel = f"https://hooks.example/services/{SECRET}"
    for url in URLS[:6]:
        alerts: dict[str, Any] = {"notify": [f"json://host/{SECRET}"], "retrain": {"url": channel}}
        config = Config.model_validate({"store": {"url": url}, "alerts": alerts}, context={"environ": {}})
        assert SECRET not in str(effective(config))
        assert SECRET in known_secrets(config)


def test_errors_are_told_without_values() -> None:
    """Of a library's error the type is told, of the store's outage its reason, and of a chain every type and place."""
    assert describe_error(ValueError("could not convert string to float: 'Alice'")) == "ValueError"
    assert describe_error(IntegrityError("INSERT", {"x": "Alice"}, Exception("Key (id)=(Alice)"))) == "IntegrityError"
    assert describe_error(OperationalError("S", {}, Exception("timeout"))) == "OperationalError: timeout"
    try:
        try:
            float("Alice")
        except ValueError as error:
            raise ExceptionGroup("Alice", [KeyError("Alice")]) from error
    except ExceptionGroup as error:
        told = describe_traceback(error)
    assert "Alice" not in told.replace('float("Alice")', "").replace('Group("Alice", [KeyError("Alice")])', "")
    for name in ("ValueError", "ExceptionGroup", "- KeyError", "test_secrets.py"):
        assert name in told


def test_the_log_masks_what_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A secret in an event, in a field and in an error of a foreign library is masked; so is a value in a task's."""
    with service_log(["known-secret"]):
        log = structlog.get_logger("secrets")
        log.error("known-secret", url=URLS[0], task="<Task exception=ValueError('Alice')>", error=ValueError("Alice"))

    printed = capsys.readouterr().out

    assert "ValueError" in printed
    for hidden in ("known-secret", SECRET, "Alice"):
        assert hidden not in printed


def test_a_model_that_raises_keeps_its_row_to_itself(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, switch_models: Path
) -> None:
    """The log has the id, the type and the place of the model's failure, and no value of the row."""
    config = make_config(tmp_path, switch_models, "moody/1", serving={"allow_pickle": True})
    with service_log(), client_of(config) as client:
        answer = client.post("/predict", {"features": {**ROW, "a": RAISES}})

    printed = capsys.readouterr().out
    assert answer.status_code == 500
    assert "model_failed" in printed
    assert "ValueError" in printed
    assert "faulty.py" in printed
    assert f"{RAISES}" not in printed + answer.text


def test_a_refused_activation_shows_no_folder(tmp_path: Path) -> None:
    """An administrator over HTTP sees names below the folder of models, and no path of the machine."""
    models = tmp_path / "models"
    build_versions(models)
    (models / NAME / "2" / "bundle.yaml").write_text("nothing")
    with client_of(make_config(tmp_path, models, f"{NAME}/1")) as client:
        refused = client.post(f"/models/{NAME}/activate", {"version": "2"})
        unknown = client.post(f"/models/{NAME}/activate", {"version": "7"})

    assert (refused.status_code, unknown.status_code) == (409, 404)
    assert f"{NAME}/2" in refused.text
    for answer in (refused, unknown):
        assert str(tmp_path) not in answer.text
        assert "/tmp" not in answer.text  # noqa: S108 - a part of a path


def test_the_files_of_a_store_are_for_their_owner(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """The database, its log, its index and its lock are 0600, also where an older version left them open."""
    (tmp_path / "plumbline.db").touch(0o644)
    umask = os.umask(0o022)
    try:
        with client_of(make_config(tmp_path, small_models[0], "mixed")) as client:
            assert client.rows == 0
            files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("plumbline.db*")}
    finally:
        os.umask(umask)
    names = ("plumbline.db", "plumbline.db-wal", "plumbline.db-shm", "plumbline.db.lock", "plumbline.db.verified")
    assert files == dict.fromkeys(names, 0o600)


@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "numpy.load", "scipy.stats._x.norm_gen", "os.popen"])
def test_code_is_never_suggested(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A type that can run code is named for what it is, and not ready to be pasted."""
    monkeypatch.setattr("app.serving.runtimes.skops.check_archive", lambda *_: None)
    monkeypatch.setattr("skops.io.get_untrusted_types", lambda **_: [name, "numpy.linalg.norm"])
    with pytest.raises(BundleError) as refused:
        load_skops(b"")

    assert "trusted_types: [numpy.linalg.norm]" in str(refused.value)
    assert f"names code that would run: {name};" in str(refused.value)


def test_no_key_in_anything_a_service_says(capsys: pytest.CaptureFixture[str], start: Start) -> None:
    """A key, right or wrong, is in no log line, answer, metric, description, report or list."""
    with service_log():
        client = start("mixed", auth=keys(*KEYS))
        boss = {"x-api-key": KEYS["boss"]}
        made = client.post("/keys", {"name": "ci", "scopes": ["admin"]}, headers=boss).json()["key"]
        texts = []
        paths = [path for path, method, _ in client.routes if method == "GET" and "{" not in path]
        for headers in ({"x-api-key": made}, {"authorization": f"Bearer {made}"}, {"x-api-key": made + "x"}, boss):
            for path in [*paths, f"/predictions/{made}", "/nowhere"]:
                answer = client.get(path, headers=headers)
                texts.append(answer.text + str(answer.headers))
            posted = ("/predict", "/outcome", "/checks")
            texts += [client.post(path, {"features": {}}, headers=headers).text for path in posted]
            texts.append(client.get("/predictions", params={"api_key": made}, headers=headers).text)
    texts.append(capsys.readouterr().out)

    for secret in (made, *KEYS.values()):
        assert [text[:200] for text in texts if secret in text] == []
