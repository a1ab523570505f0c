"""A Dockerfile taken apart, and its commands run without a container engine."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.crash.server import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
#: Where the image has its environment, its volume and its user.
VENV, VOLUME, UID = "/opt/ingest-service", "/data", "10001"
#: A folder that every machine has, and nobody minds in a namespace of our own.
STAND_IN = "/srv"

#: Mounts of a process of our own: the environment and a Python at paths that everybody can read,
#: and a network that is only its own loopback.
_NAMESPACE = f"""
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /opt
mkdir /opt/python {VENV}
mount --bind "$BASE" /opt/python
mount --bind "$VENV" {VENV}
"""
#: What `read_only: true`, a volume and a tmpfs are in a container.
_READ_ONLY = f"""
mount --bind "$DATA" {STAND_IN}
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,bind,ro {VENV}
mount -o remount,bind,ro /opt/python
mount -o remount,ro /opt
mount -o remount,bind,ro /
cd {STAND_IN}
"""
_UNPRIVILEGED = (
    f"setpriv --reuid={UID} --regid={UID} --clear-groups --no-new-privs "
    "--inh-caps=-all --bounding-set=-all"
).split()


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage; the last stage is the image."""

    stage: int
    word: str
    rest: str


def instructions() -> list[Instruction]:
    """Return all instructions, lines that go on joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found, stage = [], -1
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(None, 1)
            stage += word == "FROM"
            found.append(Instruction(stage, word, rest.strip()))
    return found


def of_image(word: str) -> list[str]:
    """Return what follows `word` in the last stage."""
    last = instructions()[-1].stage
    return [each.rest for each in instructions() if each.stage == last and each.word == word]


def words_of(word: str) -> list[str]:
    """Return the words of an instruction in exec form, of the last stage."""
    (rest,) = of_image(word)
    words: list[str] = json.loads(rest[rest.index("[") :])
    return words


def environment() -> dict[str, str]:
    """Return what the image sets, its volume where it stands in."""
    pairs = [pair.partition("=") for rest in of_image("ENV") for pair in shlex.split(rest)]
    given = {name: text for name, _, text in pairs}
    given["PATH"] = given["PATH"].replace("$PATH", "/usr/bin:/bin")
    given["INGEST_JOURNAL"] = given["INGEST_JOURNAL"].replace(VOLUME, STAND_IN)
    return given


def copied() -> list[str]:
    """Return what is copied from the checkout."""
    copies = [each.rest.split() for each in instructions() if each.word == "COPY"]
    return [name for words in copies if "--from" not in words[0] for name in words[:-1]]


def build(source: Path, venv: Path) -> None:
    """Do what the first stage does: `source` is its working directory, `venv` what it makes."""
    wheels = source / "wheels"
    for each in instructions():
        if each.stage == 0 and each.word == "RUN":
            command = each.rest.replace("/wheel", str(wheels))
            command = re.sub(r"(?<![/\w])python -m", "/opt/python/bin/python3 -m", command)
            ran = subprocess.run(  # noqa: S603
                _in_namespace(_NAMESPACE, "sh", "-euc", command),
                cwd=source,
                env=_mounted(venv) | dict(os.environ),
                capture_output=True,
                text=True,
                timeout=280,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr


def start(venv: Path, data: Path, log: Path, **settings: str) -> "subprocess.Popen[bytes]":
    """Run the entry of the image as a container would: its user, nothing to write but `data`."""
    command = [*_UNPRIVILEGED, *words_of("ENTRYPOINT"), *words_of("CMD")]
    with log.open("wb") as file:
        return subprocess.Popen(  # noqa: S603
            _in_namespace(_NAMESPACE + _READ_ONLY, "env", "-i", *_settings(settings), *command),
            env=_mounted(venv) | {"DATA": str(data), "PATH": os.environ["PATH"]},
            stdout=file,
            stderr=file,
        )


def is_healthy(container: "subprocess.Popen[bytes]", **settings: str) -> bool:
    """Run the health check of the image beside its entry."""
    inside = ["nsenter", f"--target={container.pid}", "--mount", "--net", "--wd=/"]
    command = [*inside, "env", "-i", *_settings(settings), *_UNPRIVILEGED, *words_of("HEALTHCHECK")]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0  # noqa: S603


def _settings(more: dict[str, str]) -> list[str]:
    # The Python that stands in for the image's has its library beside it.
    more = {"LD_LIBRARY_PATH": "/opt/python/lib", **more}
    return [f"{name}={text}" for name, text in (environment() | more).items()]


def _mounted(venv: Path) -> dict[str, str]:
    return {"BASE": sys.base_prefix, "VENV": str(venv)}


def _in_namespace(mounts: str, *command: str) -> list[str]:
    # The network stays while something is installed.
    kinds = ["--mount", *(["--net"] if "$DATA" in mounts else [])]
    mounts = mounts if "--net" in kinds else mounts.replace("ip link set lo up\n", "")
    return ["unshare", *kinds, "sh", "-euc", f'{mounts}exec "$@"', "sh", *command]
