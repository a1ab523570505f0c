"""Every knob: its default, what it takes, and the one line that says what it does not."""

import math
import os
import re
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ingest_service.app import create_app
from ingest_service.errors import SettingsError
from ingest_service.settings import Settings

UNTIMELY = ("1", "d", "1w", "1.5h", "36501d", "8" * 400 + "d")
#: Name, default, a good text and what it means, the ends of what is allowed, texts beyond them.
UPSTREAMS = (
    "simulated",
    "http://host/{id}",
    "https://[::1]:8443/a/{id}?x=1",
    "batch+http://host/all",
    "batch+https://host",
)
NO_UPSTREAMS = (
    "Simulated",
    "http:/x/{id}",
    "http://host/items",
    "http://user:secret@host/{id}",
    "http://host:port/{id}",
    "http://{id}.host/",
    "batch+http://host/{id}",
    "ftp://host/{id}",
    "module",
    "module:a-b",
)
JOURNALS = ("x", "a:b", "postgresql://user@host/db")
NO_JOURNALS = ("a\x00b", "\t", "mysql://user@host/db", "redis://x", "sqlite:///x")
HOSTS = ("a.example", "A_b-c.example,10.0.0.1, [::1]")
NO_HOSTS = ("a b", "a,,b", "a:80", "http://a", "*", "::1", "a/b")
ORIGINS = ("http://localhost:3000", "https://[::1]:8443", "http://a, https://b.example")
NO_ORIGINS = ("*", "a.example", "https://a/", "https://a/b", "null", "ftp://a", "http://a,")
KNOBS: list[tuple[str, object, str, object, tuple[str, ...], tuple[str, ...]]] = [
    ("BATCH_SIZE_IDS", 3, "7", 7, ("1", "10000"), ("0", "10001", "1.5")),
    ("BATCH_SIZE_MAPPINGS", 5, "7", 7, ("1", "10000"), ("0", "10001", "1.5")),
    ("INTERVAL", 5.0, "0.5", 0.5, ("0", "86400"), ("86400.1",)),
    ("SETTLE", 0.45, "1e-3", 0.001, ("0", "86400"), ("86401",)),
    ("MAX_CONCURRENT_BATCHES", 1, "4", 4, ("1", "1000"), ("0", "1001")),
    ("POLICY", "strict", "aged", "aged", ("strict", "weighted"), ("Strict", "fifo")),
    ("AGED_AFTER", 600.0, "60", 60.0, ("1", "2592000"), ("0.9", "2592001")),
    ("UPSTREAM", "simulated", "a.b:c", "a.b:c", UPSTREAMS, NO_UPSTREAMS),
    ("UPSTREAM_TIMEOUT", 30.0, "2.5", 2.5, ("0.01", "3600"), ("0", "3601")),
    ("UPSTREAM_MAX_RESPONSE", 2**20, "10", 10, ("1", str(2**30)), ("0", "1MB")),
    ("UPSTREAM_HEADERS_FILE", None, "a b", "a b", ("x",), ("a\x00b", "\t")),
    ("UPSTREAM_CA", None, "ca.pem", "ca.pem", ("x",), ("a\x00b", "\t")),
    ("UPSTREAM_PROXY", None, "http://p:3128", "http://p:3128", (), ("p:3128", "http://u:p@p")),
    ("UPSTREAM_MAX_HOLD", 3_600.0, "60", 60.0, ("0", "86400"), ("86401",)),
    ("MAX_ATTEMPTS", 5, "1", 1, ("1", "100"), ("0", "101")),
    ("BACKOFF", 1.0, "0.1", 0.1, ("0", "86400"), ("86401",)),
    ("BACKOFF_MAX", 300.0, "60", 60.0, ("0", "86400"), ("86401",)),
    ("SIMULATED_LATENCY", 1.0, "2", 2.0, ("0", "86400"), ("86401",)),
    ("SIMULATED_SUCCESS_RATE_IDS", 1.0, ".5", 0.5, ("0", "1"), ("1.01", "50%")),
    ("SIMULATED_SUCCESS_RATE_MAPPINGS", 0.9, ".5", 0.5, ("0", "1"), ("1.01",)),
    ("SIMULATED_SEED", None, "42", 42, ("0",), ("1.0",)),
    ("MAX_ITEMS", 1_000_000, "10", 10, ("1", "10000000"), ("0", "10000001", "1e6")),
    ("MAX_BODY", 64 * 2**20, "1024", 1024, ("1", str(2**32)), ("0", "64MB")),
    ("MIN_RESPONSE_RATE", 1_000, "0", 0, ("0", str(2**30)), (str(2**30 + 1), "1kB")),
    ("MAX_QUEUED_ITEMS", 10_000_000, "10", 10, ("1", str(2**40)), ("0", "1,000")),
    ("MAX_INGESTIONS", 100_000, "10", 10, ("1", "10000000"), ("0", "10000001")),
    ("JOURNAL", "memory", "a b.sqlite3", "a b.sqlite3", JOURNALS, NO_JOURNALS),
    ("DATABASE_PASSWORD_FILE", None, "a b", "a b", ("x",), ("a\x00b", "\t")),
    ("MIN_FREE_DISK", 2**28, "0", 0, ("0", str(2**50)), ("1G",)),
    ("RETENTION", 604_800.0, "36h", 129_600.0, ("0s", "36500d"), UNTIMELY),
    ("VALIDATION_STATUS", 400, "422", 422, ("400",), ("200", "4e2", "400.0")),
    ("UNKNOWN_KEYS", "refuse", "ignore", "ignore", ("refuse",), ("Ignore", "422")),
    ("HOST", "localhost", "::1", "::1", ("10.0.0.7", "[::]", "a.b"), ("a:80", "a b", "a/b")),
    ("API_KEYS_FILE", None, "a b", "a b", ("x",), ("a\x00b", "\t")),
    ("INSECURE", "no", "yes", "yes", ("no",), ("Yes", "1", "true")),
    ("ALLOWED_HOSTS", (), "B.example", ("b.example",), HOSTS, NO_HOSTS),
    ("CORS_ORIGINS", (), "HTTPS://A:443", ("https://a",), ORIGINS, NO_ORIGINS),
    ("TRUSTED_PROXIES", 0, "1", 1, ("0", "10"), ("11", "1.0", "yes")),
    ("LOG_LEVEL", "INFO", "DEBUG", "DEBUG", ("ERROR",), ("debug", "TRACE")),
]
#: What these take is neither a number nor one of some words.
PATHS = (
    "ALLOWED_HOSTS",
    "API_KEYS_FILE",
    "HOST",
    "JOURNAL",
    "DATABASE_PASSWORD_FILE",
    "UPSTREAM_HEADERS_FILE",
    "UPSTREAM_CA",
)
NOT_EVEN_A_PATH = ("", " ", "1\n2")
NEVER = (*NOT_EVEN_A_PATH, "-1", "abc", "nan", "inf", "-inf", "1_0", "\u0663", "9" * 5_000)
WRONG = [
    (name, text)
    for name, *_, beyond in KNOBS
    for text in (*beyond, *(NOT_EVEN_A_PATH if name in PATHS else NEVER))
]
ROOT = Path(__file__).parents[1]
#: What no type checker can stop: a value of a wrong type, or beyond the bounds.
WRONG_VALUES: list[tuple[str, object]] = [
    *(("interval", value) for value in (-5, math.nan, math.inf, True, "5", None, 10**400)),
    *(("batch_size_ids", value) for value in (0, 1.0, True, "3", None)),
    *(("policy", value) for value in ("fifo", None, 1, ["strict"])),
    *(("upstream", value) for value in ("nonsense", None, 7)),
    *(("journal", value) for value in ("mysql://host/db", "", None, Path("x"))),
    *(("retention", value) for value in (-1, "7d", math.nan, 36_500 * 86_400 + 1)),
    *(("simulated_seed", value) for value in (-1, 2**63, 1.0, False)),
    *(("validation_status", value) for value in (200, "400", True)),
    *(("allowed_hosts", value) for value in ("a", ["a"], ("a b",), (1,))),
]


def refused(environ: dict[str, str]) -> str:
    """Assert that `environ` is refused with one line; return it."""
    with pytest.raises(SettingsError) as error:
        Settings.from_env(environ)
    (line,) = str(error.value).splitlines()
    return line


def test_this_table_has_every_knob() -> None:
    assert [name.lower() for name, *_ in KNOBS] == [each.name for each in fields(Settings)]


@pytest.mark.parametrize(("name", "default"), [knob[:2] for knob in KNOBS])
def test_a_knob_that_is_not_set_has_its_default(name: str, default: object) -> None:
    assert getattr(Settings.from_env({}), name.lower()) == default
    assert getattr(Settings(), name.lower()) == default


@pytest.mark.parametrize(("name", "text", "value"), [(k[0], *k[2:4]) for k in KNOBS])
def test_a_knob_takes_its_value_from_the_environment(name: str, text: str, value: object) -> None:
    found = getattr(Settings.from_env({f"INGEST_{name}": text}), name.lower())
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("name", "text"), [(k[0], text) for k in KNOBS for text in k[4]])
def test_the_ends_of_what_is_allowed_are_taken(name: str, text: str) -> None:
    Settings.from_env({f"INGEST_{name}": text})


def _without_password(text: str) -> str:
    return re.sub("(//[a-z]+):[a-z]+@", r"\1:...@", text)


@pytest.mark.parametrize(("name", "text"), WRONG, ids=lambda text: ascii(text[:40]))
def test_a_wrong_value_is_refused_in_one_line(name: str, text: str) -> None:
    """The line names the variable, the value without a password, and what is allowed."""
    line = refused({f"INGEST_{name}": text})
    assert line.startswith(f"INGEST_{name}=")
    assert repr(_without_password(text)[:80]) in line
    assert " is not allowed: it must be " in line
    assert len(line) < 250


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES, ids=lambda value: ascii(value)[:30])
def test_a_wrong_value_is_refused_in_one_line_whoever_gives_it(name: str, value: object) -> None:
    """Not only in the environment: a library that is given nonsense must not start either."""
    with pytest.raises(SettingsError) as error:
        create_app(Settings(**{name: value}))  # type: ignore[arg-type]
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"INGEST_{name.upper()}=")
    assert " is not allowed: it must be " in line
    assert len(line) < 250


def test_every_default_is_allowed_and_a_minus_zero_is_a_zero() -> None:
    assert math.copysign(1, Settings(interval=-0.0).interval) == 1
    assert math.copysign(1, Settings.from_env({"INGEST_INTERVAL": "-0.0"}).interval) == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("INGEST_INTERVALL", "INGEST_INTERVAL"),
        ("INGEST_INTREVAL", "INGEST_INTERVAL"),
        ("INGEST_interval", "INGEST_INTERVAL"),
        ("INGEST_BATCH_SIZE", "INGEST_BATCH_SIZE_IDS"),
        ("INGEST_BATCHSIZE_MAPPINGS", "INGEST_BATCH_SIZE_MAPPINGS"),
        ("INGEST_MAX_QUEUED", "INGEST_MAX_QUEUED_ITEMS"),
        ("INGEST_LOGLEVEL", "INGEST_LOG_LEVEL"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_one_meant(name: str, meant: str) -> None:
    assert refused({name: "1"}) == f"{name} is not a setting; did you mean {meant}?"


def test_variables_of_others_are_left_alone() -> None:
    """An orchestrator that calls the service `ingest` sets such names."""
    others = {"INGEST_SERVICE_HOST": "10.0.0.1", "INGEST_PORT": "tcp://10.0.0.1:80", "PATH": "x"}
    assert Settings.from_env(others) == Settings()


def test_a_request_never_may_have_more_items_than_the_queue_can_hold() -> None:
    assert Settings(max_items=5, max_queued_items=3).item_limit == 3
    assert Settings(max_items=3, max_queued_items=5).item_limit == 3


@pytest.mark.parametrize(
    ("has_it", "expected"),
    [(True, ["127.0.0.1:8123", "[::1]:8123"]), (False, ["127.0.0.1:8123"])],
)
def test_the_server_listens_on_both_addresses_of_localhost_where_there_are_two(
    monkeypatch: pytest.MonkeyPatch, has_it: bool, expected: list[str]
) -> None:
    """Some clients take `localhost` for ::1 and give up when nobody is there."""

    def bind(_: object, address: tuple[str, int]) -> None:
        assert address == ("::1", 0)
        if not has_it:
            raise OSError("Cannot assign requested address")

    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setattr("socket.socket.bind", bind)
    assert runpy.run_path(str(ROOT / "gunicorn.conf.py"))["bind"] == expected


@pytest.mark.parametrize(
    ("environ", "arguments", "says"),
    [
        ({"INGEST_INTERVAL": "abc"}, [], "INGEST_INTERVAL='abc' is not allowed: it must be a"),
        ({"INGEST_JOURNAL": "mysql://host/db"}, [], "INGEST_JOURNAL='mysql://host/db'"),
        ({"INGEST_INTERVALL": "1"}, [], "did you mean INGEST_INTERVAL?"),
        ({}, ["-w", "2"], "2 workers"),
        ({"WEB_CONCURRENCY": "2"}, [], "2 workers"),
        ({}, ["--preload"], "--preload"),
    ],
    ids=[
        "wrong value",
        "unknown journal",
        "misspelt name",
        "-w 2",
        "WEB_CONCURRENCY=2",
        "--preload",
    ],
)
def test_the_server_does_not_start_wrongly(
    environ: dict[str, str], arguments: list[str], says: str
) -> None:
    """It ends at once, with one line of ours and no traceback."""
    ended = subprocess.run(  # noqa: S603 - our own server
        [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:0", *arguments],
        cwd=ROOT,
        env=os.environ | {"INGEST_JOURNAL": "memory"} | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    ours = [line for line in ended.stderr.splitlines() if "[INFO]" not in line]
    assert ended.returncode not in (0, None)
    assert len(ours) == 1, ended.stderr
    assert ours[0].startswith("ingest_service: ")
    assert says in ours[0]


@pytest.mark.parametrize(
    "address", ["postgresql://user:secret@host/db", "postgresql://host/db?password=secret"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SettingsError, match="INGEST_JOURNAL") as refused:
        Settings.from_env({"INGEST_JOURNAL": address})
    assert "secret" not in str(refused.value)
