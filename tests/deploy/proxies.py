"""nginx with the configuration that is shipped; only ports, paths and certificates differ."""

import http.client
import json
import re
import ssl
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.crash.server import ROOT, Answer, free_port
from tests.crash.waiting import eventually

DEPLOY = ROOT / "deploy"
NAME = "ingest.example"


class Proxy:
    """Debian's nginx in front of replicas; it speaks TLS on `port`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.context = ssl.create_default_context(cafile=str(make_certificate(folder)))

    def start(self, replicas: Iterable[int]) -> None:
        """Start it, and wait until it takes connections."""
        command = self._prepare(list(replicas))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command, cwd=self._folder, stdout=log, stderr=log
            )
        eventually(self._answers)

    def stop(self) -> None:
        """End it."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def connect(self, seconds: float = 60.0) -> http.client.HTTPSConnection:
        """Give a connection."""
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=seconds, context=self.context
        )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = self.connect()
        text = body if body is None or isinstance(body, bytes) else json.dumps(body)
        names = {"Host": f"{NAME}:{self.port}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, text, names | dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def logged(self) -> str:
        """Return what it has said."""
        return self._log.read_text()

    @property
    def _log(self) -> Path:
        return self._folder / "proxy.log"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.logged()
        try:
            return self.request("GET", "/health/live").status < 600
        except OSError:
            return False

    def _prepare(self, replicas: list[int]) -> list[str]:
        folder, text = self._folder, (DEPLOY / "nginx.conf").read_text()
        temporary = [
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        ]
        for there, here in {
            # The folders of a test are closed to others.
            "user www-data;": "user root;",
            "listen 80 ": f"listen 127.0.0.1:{free_port()} ",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "/etc/nginx/tls/ingest.crt": f"{folder}/certificate.pem",
            "/etc/nginx/tls/ingest.key": f"{folder}/key.pem",
            "server_tokens off;": f"server_tokens off; access_log off; {' '.join(temporary)}",
        }.items():
            assert text.count(there) == 1, there
            text = text.replace(there, here)
        (folder / "nginx.conf").write_text(text)
        (folder / "ingest-replicas.conf").write_text(
            on_ports((DEPLOY / "ingest-replicas.conf").read_text(), replicas)
        )
        globally = f"daemon off; pid {folder}/pid; error_log stderr;"
        return ["nginx", "-c", f"{folder}/nginx.conf", "-g", globally]


def on_ports(text: str, ports: list[int]) -> str:
    """Return lines of replicas with other ports."""
    lines = re.findall(r"^server 127\.0\.0\.1:\d+ (.*)$", text, re.MULTILINE)
    assert len(lines) == len(ports)
    return "".join(
        f"server 127.0.0.1:{port} {options}\n" for port, options in zip(ports, lines, strict=True)
    )


def make_certificate(folder: Path) -> Path:
    """Write a certificate that vouches for itself, and its key."""
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1",
        "-keyout", f"{folder}/key.pem", "-out", f"{folder}/certificate.pem",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603
    return folder / "certificate.pem"
