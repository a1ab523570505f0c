"""What is installed from the wheel works, in any folder, with every release that it allows."""

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import private_cluster
from tests.crash.server import free_port
from tests.crash.waiting import eventually

ROOT = Path(__file__).parents[2]
UV = [sys.executable, "-m", "uv"]
CLEAN = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a program in `folder`; return what it prints."""
    ran = subprocess.run(  # noqa: S603
        [str(word) for word in command],
        cwd=folder, env=CLEAN | environment, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a fresh checkout of what is committed."""
    source = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            copy = source / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder with wheel and source distribution, built from it."""
    target = tmp_path_factory.mktemp("dist")
    run(*UV, "build", "--quiet", "--out-dir", target, folder=source)
    return target


def test_the_distributions_have_what_serving_needs(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    for ending in ("py.typed", "gunicorn_conf.py", "wsgi.py", ".sql", ".html", ".css", "LICENSE"):
        assert any(name.endswith(ending) for name in names), ending
    assert not any(name.startswith(("tests", "benchmarks")) for name in names)
    with tarfile.open(sdist) as archive:
        inside = [name.partition("/")[2] for name in archive.getnames()]
    assert {"setup.cfg", "pyproject.toml", "LICENSE", "README.md"} <= set(inside)


def test_a_checkout_has_the_command_and_the_client_in_every_folder(
    source: Path, tmp_path: Path
) -> None:
    """As README says of `make serve`, which makes this environment first."""
    run("make", f"PYTHON={sys.executable}", ".venv/.ready", folder=source)
    assert "Queue work" in run(source / ".venv/bin/ingest-service", "--help", folder=tmp_path)
    imported = "import ingest_service.client as c; print(c.__file__)"
    assert run(source / ".venv/bin/python", "-c", imported, folder=tmp_path).startswith(str(source))


@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
def test_it_is_installed_and_used(built: Path, tmp_path: Path, resolution: str) -> None:
    """In an empty environment, from a folder of its own."""
    python = installed(built, tmp_path, "", resolution)
    command, folder = python.with_name("ingest-service"), tmp_path / "elsewhere"
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with running(folder, command, "serve", "--port", port, "--interval", "0.2") as log:
        submit(command, url, folder)
        assert len((folder / "out.csv").read_text().splitlines()) == 8
        page = "import urllib3;print(urllib3.request('GET','{}/{}').status)"
        for path in ("docs", "redoc", "openapi.json", "problems/conflict", "dashboard"):
            assert run(python, "-c", page.format(url, path), folder=folder).strip() == "200", path
    assert "Listens on" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "sound" in run(command, "check", folder=folder)
    assert (folder / "ingest.sqlite3").exists()


@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
def test_it_works_on_postgresql(built: Path, tmp_path: Path, resolution: str) -> None:
    """With what the extra brings, and a worker of its own."""
    python = installed(built, tmp_path, "[postgres]", resolution)
    command, folder = python.with_name("ingest-service"), tmp_path / "elsewhere"
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with private_cluster() as cluster:
        place = {"INGEST_JOURNAL": cluster.address, "INGEST_INTERVAL": "0.2"}
        assert "is at" in run(command, "migrate", folder=folder, **place)
        with (
            running(folder, command, "serve", "--port", port, **place),
            running(folder, command, "work", **place),
        ):
            submit(command, url, folder)


def installed(built: Path, tmp_path: Path, extra: str, resolution: str) -> Path:
    """Install the wheel with one of its extras; return the interpreter."""
    (wheel,) = built.glob("*.whl")
    venv, folder = tmp_path / "venv", tmp_path / "elsewhere"
    folder.mkdir()
    run(*UV, "venv", "--quiet", "--python", sys.executable, venv, folder=folder)
    run(
        *UV, "pip", "install", "--quiet", "--python", venv / "bin" / "python",
        "--resolution", resolution, f"{wheel}{extra}", folder=folder,
    )  # fmt: skip
    return venv / "bin" / "python"


@contextmanager
def running(folder: Path, *command: str | Path, **environment: str) -> Iterator[Path]:
    """Give the log of a program that runs meanwhile."""
    log = folder / f"{command[1]}.log"
    with log.open("w") as output:
        server = subprocess.Popen(  # noqa: S603
            [str(word) for word in command],
            cwd=folder, env=CLEAN | environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield log
    finally:
        server.terminate()
        server.wait(40)


def submit(command: Path, url: str, folder: Path) -> None:
    """Have something done, once the service is there; look at how it went."""
    eventually(lambda: answers(command, url, folder), 30)
    submitted = run(
        command, "submit", "1-7", "--wait", "--results", "out.csv", "--url", url, folder=folder
    )
    assert "7 of 7 settled; succeeded" in submitted
    ingestion_id = submitted.split()[0]
    assert "succeeded" in run(command, "status", ingestion_id, "--url", url, folder=folder)
    assert "3 batch starts, 0 violations" in run(command, "proof", "--url", url, folder=folder)


def answers(command: Path, url: str, folder: Path) -> bool:
    """Tell whether the service is there."""
    ran = subprocess.run(  # noqa: S603
        [str(command), "queue", "--url", url],
        cwd=folder, env=CLEAN, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    return ran.returncode == 0
