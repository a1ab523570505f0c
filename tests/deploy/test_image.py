"""The image, as far as it can be tried without a container engine."""

import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.server import ROOT
from tests.crash.waiting import eventually
from tests.deploy import dockerfile

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what the first stage makes of what it is given."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("made")
    for name in dockerfile.copied():
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    # Somebody without rights will look into it.
    made.chmod(0o755)
    dockerfile.build(source, made)
    return made


def test_a_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run(  # noqa: S603
        [linter, dockerfile.DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """The last line that fits a name decides."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert len(dockerfile.copied()) > 5
    for name in dockerfile.copied():
        assert (ROOT / name).exists(), name
        deciding = [rule for rule in rules if fnmatch.fnmatch(name, rule.removeprefix("!"))]
        assert deciding[-1].startswith("!"), name


def test_it_runs_as_somebody_and_hears_the_signal_to_stop() -> None:
    assert dockerfile.of_image("USER") == [f"{dockerfile.UID}:{dockerfile.UID}"]
    assert dockerfile.of_image("STOPSIGNAL") == ["SIGTERM"]
    assert dockerfile.of_image("VOLUME") == [dockerfile.VOLUME]
    # Without a shell between that would keep the signal to itself.
    assert dockerfile.words_of("ENTRYPOINT") == ["ingest-service"]


@ROOT_ONLY
@pytest.mark.timeout(300)
def test_it_serves_with_nothing_to_write_but_its_volume(venv: Path, tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    data.mkdir()
    os.chown(data, int(dockerfile.UID), int(dockerfile.UID))

    refused = dockerfile.start(venv, data, log)
    assert refused.wait(60) != 0
    assert "nobody would need a key" in log.read_text()

    open_to_all = {"INGEST_INSECURE": "yes"}
    container = dockerfile.start(venv, data, log, **open_to_all)
    try:
        eventually(lambda: dockerfile.is_healthy(container, **open_to_all), 60)
    finally:
        container.terminate()
        assert container.wait(40) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert not dockerfile.is_healthy(container, **open_to_all)
    (journal,) = data.iterdir()
    assert journal.name == "ingest.sqlite3"
    assert journal.stat().st_uid == int(dockerfile.UID)
