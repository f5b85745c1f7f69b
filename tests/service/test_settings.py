"""What an operator sets: flags, variables, and refusals that say what to change."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from service.flags import from_arguments
from service.operations.keys import Keys, Role
from service.protocol.errors import ProblemError
from service.server import check, listen
from service.settings import GROUPS, Settings, SettingsError, build, is_loopback, unknown_variables
from service.stores.memory import MemoryStore
from service.stores.open import open_store, sqlite_path
from service.stores.sqlite import SQLiteStore


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"THICK_{name.upper()}", raising=False)


def test_a_flag_wins_over_its_variable_and_a_variable_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert from_arguments([]).port == 8000
    monkeypatch.setenv("THICK_PORT", "9001")
    monkeypatch.setenv("THICK_API_KEYS", "a, b,,")
    monkeypatch.setenv("THICK_STORE", "memory://")
    monkeypatch.setenv("THICK_MODEL_CONTROL", "")
    settings = from_arguments(["--host", "::1"])
    assert settings.port == 9001 and settings.host == "::1" and settings.store == "memory://"
    assert [key.get_secret_value() for key in settings.api_keys] == ["a", "b"]
    assert from_arguments(["--port", "9002"]).port == 9002


def test_every_flag_is_in_the_help_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        from_arguments(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for name in Settings.model_fields:
        assert "--" + name.replace("_", "-") in text
    for title in GROUPS.values():
        assert title in text
    assert "(default: 8000)" in text and "example: thick serve" in text


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--prot", "1"], "did you mean --port?"),
        (["--port", "70000"], "--port"),
        (["--port", "x"], "--port"),
        (["--device", "tpu"], "--device"),
        (["--tls-cert", "a.pem"], "--tls-key"),
        (["--model-control"], "--admin-keys"),
        (["--session-ttl-s", "100", "--max-ttl-s", "10"], "--max-ttl-s"),
        (["--backend", "jax"], "--backend"),
    ],
)
def test_a_wrong_setting_is_reported_by_its_flag(argv: list[str], told: str) -> None:
    with pytest.raises(SettingsError, match=told.replace("?", r"\?")):
        from_arguments(argv)


def test_a_wrong_variable_is_reported_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THICK_MAX_BATCH", "many")
    with pytest.raises(SettingsError, match="THICK_MAX_BATCH"):
        from_arguments([])


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_beyond_loopback_there_must_be_keys(host: str) -> None:
    with pytest.raises(SettingsError, match="--api-keys"):
        from_arguments(["--host", host]).check_exposure()
    for more in (["--api-keys", "k"], ["--admin-keys", "k"], ["--allow-anonymous"]):
        from_arguments(["--host", host, *more]).check_exposure()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    from_arguments(["--host", host]).check_exposure()


def test_what_cannot_be_served_is_reported_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such folder"):
        check(from_arguments(["--models", str(tmp_path / "nowhere")]))
    with pytest.raises(SettingsError, match="--backend onnx: backend onnx runs on cpu, not on cuda"):
        check(from_arguments(["--models", str(tmp_path), "--backend", "onnx", "--device", "cuda"]))
    with pytest.raises(SettingsError, match="tls-cert"):
        files = ["--tls-cert", str(tmp_path / "a"), "--tls-key", str(tmp_path / "b")]
        check(from_arguments(["--models", str(tmp_path), *files]))
    with listen("127.0.0.1", 0, "--port") as taken, pytest.raises(SettingsError, match="another --port"):
        listen("127.0.0.1", taken.getsockname()[1], "--port")


# -- keys ----------------------------------------------------------------------------------------------------


def test_keys_are_known_by_their_hash_and_have_roles() -> None:
    hashed = "sha256:" + hashlib.sha256(b"second").hexdigest()
    keys = Keys(Settings(api_keys=("first", hashed), admin_keys=("chief",)))
    assert keys.role("Bearer first") == keys.role("bearer second") == Role.CLIENT
    assert keys.role("Bearer chief") == Role.ADMIN
    for wrong in ("Bearer third", f"Bearer {hashed}", "Bearer first ", "Bearer FIRST"):
        if wrong.strip() == "Bearer first":
            continue
        with pytest.raises(ProblemError) as caught:
            keys.role(wrong)
        assert caught.value.status == 403
    for missing in (None, "", "Bearer", "Bearer ", "Basic Zmlyc3Q6"):
        with pytest.raises(ProblemError) as caught:
            keys.role(missing)
        assert caught.value.status == 401
    assert "first" not in repr(vars(keys)) and "chief" not in repr(vars(keys))


def test_admin_keys_alone_leave_this_machine_its_access_and_strangers_none() -> None:
    assert Keys(Settings(admin_keys=("chief",))).role(None) == Role.CLIENT
    with pytest.raises(ProblemError):
        Keys(Settings(admin_keys=("chief",), host="0.0.0.0")).role(None)


def test_a_hash_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="64 hexadecimal"):
        Keys(Settings(api_keys=("sha256:abc",)))


@pytest.mark.parametrize("key", ["schlüssel", "a\nb", "日本"])
def test_a_key_that_no_client_can_send_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match="beyond printable ASCII") as caught:
        Keys(Settings(api_keys=(key,)))
    assert key not in str(caught.value)


def test_a_variable_that_is_nearly_one_is_named_with_the_one_that_is_meant() -> None:
    set_here = {
        "THICK_PRT": "1", "THICK_APIKEYS": "a", "THICK_PORT": "1", "thick_host": "x", "THICK_STORE": "memory://",
        "THICK_API_KEY": "a", "THICK_INSTRUCTIONS": "avx2", "THICK_SERVICE_HOST": "10.0.0.1",
        "THICK_PORT_8000_TCP": "tcp://10.0.0.1:8000", "THICK_QZXW": "1", "OTHER_PRT": "1",
    }  # fmt: skip
    assert unknown_variables(set_here) == {"THICK_PRT": "THICK_PORT", "THICK_APIKEYS": "THICK_API_KEYS"}


def test_a_service_that_kubernetes_calls_thick_keeps_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THICK_PORT", "tcp://10.0.0.1:8000")
    assert build({}).port == 8000
    monkeypatch.setenv("THICK_PORT", "tcp:8000")
    with pytest.raises(SettingsError, match="THICK_PORT: input should be a valid integer"):
        build({})
    monkeypatch.setenv("THICK_PORT", "9000")
    assert build({}).port == 9000
    with pytest.raises(SettingsError, match="--port"):
        build({"port": "tcp://10.0.0.1:8000"})


def test_settings_never_show_their_keys() -> None:
    assert "hush" not in repr(Settings(api_keys=("hush",)))


# -- store ---------------------------------------------------------------------------------------------------


def test_sqlite_addresses_are_read_as_people_mean_them(tmp_path: Path) -> None:
    assert sqlite_path("sqlite:///sessions.db") == Path("sessions.db")
    assert sqlite_path(f"sqlite:///{tmp_path}/sessions.db") == tmp_path / "sessions.db"
    assert sqlite_path(f"sqlite://{tmp_path}/sessions.db") == tmp_path / "sessions.db"
    assert sqlite_path("sqlite:///~/sessions.db") == Path.home() / "sessions.db"
    with pytest.raises(SettingsError):
        sqlite_path("sqlite:///")


async def test_the_default_store_is_a_file_for_each_repository_and_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    one, two = [await open_store(Settings(models=tmp_path)) for _ in range(2)]
    other = await open_store(Settings(models=tmp_path / "elsewhere"))
    assert isinstance(one, SQLiteStore) and isinstance(two, SQLiteStore) and isinstance(other, SQLiteStore)
    assert len({one.path, two.path, other.path}) == 3
    await one.close()
    again = await open_store(Settings(models=tmp_path))
    assert isinstance(again, SQLiteStore) and again.path == one.path
    await asyncio.gather(two.close(), other.close(), again.close())


async def test_where_the_default_file_cannot_be_written_sessions_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file, not a folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert isinstance(await open_store(Settings(models=tmp_path)), MemoryStore)


@pytest.mark.parametrize("store", ["postgres://x", "nonsense", "sqlite:////proc/none/x.db"])
async def test_a_store_that_cannot_be_used_is_reported(store: str) -> None:
    with pytest.raises(SettingsError, match="--store"):
        await open_store(Settings(store=store))
