"""The files of an HTTP upstream: headers that are secrets, and certificates."""

import logging
import ssl
from pathlib import Path

import pytest

from ingest_service.errors import SettingsError
from ingest_service.upstreams.http import ItemConnector
from ingest_service.upstreams.http_config import read_headers
from ingest_service.watched_file import LOOK_EVERY
from tests.realtime import (
    Scripted,
    answer,
    reset,
    running,
)
from tests.upstreams.calls import AheadClock, batch_of, client
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


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_a_header_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """In one line, with what to do about it."""
    headers = tmp_path / "headers"
    headers.write_text("X-Token: 77777\n")
    headers.chmod(mode)
    with pytest.raises(SettingsError, match=f"run `chmod 600 {headers}`") as refused:
        read_headers(str(headers))
    assert "77777" not in str(refused.value)


class Rotated:
    """A header file that somebody changes, and the requests that go out meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.clock = AheadClock()
        self.path = folder / "headers"
        self.write("X-Token: old\n")
        self.connector = client(clock=self.clock, upstream_headers_file=str(self.path))

    def write(self, text: str, mode: int = 0o600) -> None:
        """Put a new file in its place."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.chmod(mode)
        new.rename(self.path)

    def token(self, server: Scripted) -> str:
        """Return what the next request says, after a while."""
        self.clock.ahead += LOOK_EVERY
        ItemConnector(self.connector, server.items)(batch_of(1))
        return server.requests[-1].headers["x-token"]


def test_a_header_file_is_read_again_when_it_was_changed(tmp_path: Path) -> None:
    """So that a secret can be rotated without a restart."""
    rotated = Rotated(tmp_path)
    with Scripted(lambda _: OK) as server:
        assert rotated.token(server) == "old"
        rotated.write("X-Token: new\n")
        assert rotated.token(server) == "new"


def test_a_header_file_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    """However many requests go out."""
    rotated = Rotated(tmp_path)
    with Scripted(lambda _: OK) as server:
        assert rotated.token(server) == "old"
        rotated.write("X-Token: new\n")
        rotated.clock.ahead -= LOOK_EVERY
        assert rotated.token(server) == "old"


@pytest.mark.parametrize(
    ("text", "mode"),
    [("X-Token: 77777\n", 0o644), ("nonsense\n", 0o600), ("X-Token: 77777\xfc", 0o600)],
)
def test_a_wrong_new_header_file_changes_nothing_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, mode: int
) -> None:
    """Until it is put right."""
    rotated = Rotated(tmp_path)
    with Scripted(lambda _: OK) as server:
        rotated.write(text, mode)
        assert [rotated.token(server) for _ in range(3)] == ["old"] * 3
        complaints = [record for record in caplog.records if record.msg == "file_unusable"]
        rotated.write("X-Token: right\n")
        assert rotated.token(server) == "right"

    assert len(complaints) == 1
    assert "77777" not in str(complaints[0].__dict__["fields"])


def test_a_header_file_that_is_gone_for_a_while_changes_nothing(tmp_path: Path) -> None:
    """It may be on its way."""
    rotated = Rotated(tmp_path)
    with Scripted(lambda _: OK) as server:
        rotated.path.unlink()
        assert rotated.token(server) == "old"
        rotated.write("X-Token: new\n")
        assert rotated.token(server) == "new"


def test_authorities_are_read_again_when_they_were_changed(
    certificate: tuple[Path, ssl.SSLContext], other: tuple[Path, ssl.SSLContext], tmp_path: Path
) -> None:
    """For old connections too: who is not trusted any more gets no further request."""
    clock, trusted = AheadClock(), tmp_path / "ca.pem"
    trusted.write_bytes(certificate[0].read_bytes())
    sender = client(clock=clock, upstream_ca=str(trusted))
    with Scripted(lambda _: OK, tls=certificate[1]) as server:
        connector = ItemConnector(sender, server.items)
        (before,) = connector(batch_of(1))
        trusted.write_bytes(other[0].read_bytes())
        clock.ahead += LOOK_EVERY
        (distrusted,) = connector(batch_of(2))
        trusted.write_bytes(b"nonsense")
        clock.ahead += LOOK_EVERY
        (still,) = connector(batch_of(3))
        trusted.write_bytes(certificate[0].read_bytes())
        clock.ahead += LOOK_EVERY
        (again,) = connector(batch_of(4))

    assert [before.succeeded, again.succeeded] == [True, True]
    for outcome in (distrusted, still):
        assert "SSLCertVerificationError" in str(outcome.error)
        assert (outcome.transient, outcome.unreachable) == (True, True)
    assert [request.target for request in server.requests] == ["/items/1", "/items/4"]
