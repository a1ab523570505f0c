"""The files of an HTTP upstream: headers that are secrets, and certificates."""

import logging
import ssl
import subprocess
from pathlib import Path

import pytest

from ingest_service.errors import SettingsError
from ingest_service.upstreams.http_config import read_headers
from tests.realtime import (
    Scripted,
    answer,
    reset,
    running,
)
from tests.upstreams.replies import OK, first


def test_secret_headers_are_sent_and_told_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a log at any level, not in an error."""
    secret = "s3cr3t-t0ken"  # noqa: S105
    headers = tmp_path / "headers"
    headers.write_text(f"Authorization: Bearer {secret}\nuser-agent: mine\n")
    headers.chmod(0o600)
    caplog.set_level(logging.DEBUG)
    with (
        Scripted(first(reset, answer(401))) as server,
        running(server.items, upstream_headers_file=str(headers)) as service,
    ):
        (outcome,) = service.finish(service.send([1]))

    assert [request.headers["authorization"] for request in server.requests] == [
        f"Bearer {secret}"
    ] * 2
    assert server.requests[0].headers["user-agent"] == "mine"
    assert secret not in caplog.text + str(outcome)
    assert caplog.records


@pytest.mark.parametrize("name", ["Idempotency-Key", "content-length", "Transfer-Encoding"])
def test_headers_that_belong_to_the_service_are_refused(tmp_path: Path, name: str) -> None:
    """Two of them would contradict each other; the value is not repeated."""
    headers = tmp_path / "headers"
    headers.write_text(f"X-Fine: yes\n{name}: 77777\n")
    headers.chmod(0o600)
    with pytest.raises(SettingsError, match=f"line 2 must not set {name}") as refused:
        read_headers(str(headers))
    assert "77777" not in str(refused.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for 127.0.0.1 that vouches for itself, and what serves it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    command += f"-subj /CN=upstream -addext subjectAltName=IP:127.0.0.1 -out {certificate}"
    subprocess.run([*command.split(), "-keyout", key], check=True, capture_output=True)  # noqa: S603
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


def test_a_certificate_that_nobody_vouches_for_is_refused(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    """No request is sent, and the item is not lost: the operator can put it right."""
    with (
        Scripted(lambda _: OK, tls=certificate[1]) as server,
        running(server.items, max_attempts=1) as service,
    ):
        (outcome,) = service.finish(service.send([1]))

    assert "cannot be reached: SSLError, SSLCertVerificationError" in str(outcome.error)
    assert server.requests == []


def test_a_certificate_that_the_operator_vouches_for_is_accepted(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    """`INGEST_UPSTREAM_CA` names it."""
    with (
        Scripted(lambda _: OK, tls=certificate[1]) as server,
        running(server.items, upstream_ca=str(certificate[0])) as service,
    ):
        outcomes = service.finish(service.send([1, 2, 3, 4]))

    assert [outcome.attempts for outcome in outcomes if outcome.succeeded] == [1] * 4
