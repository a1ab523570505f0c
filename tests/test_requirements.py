"""What is installed is pinned, and is what setup.cfg allows."""

from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def lines(name: str) -> list[str]:
    """Return what a file says, without comments."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def named(line: str) -> Requirement:
    """Return what a line of requirements.txt asks for."""
    return Requirement(line.partition(" --hash=")[0])


PINNED = {canonicalize_name(named(line).name): line for line in lines("requirements.txt")}
ASKED = [Requirement(line) for line in lines("requirements.in")]


def allowed() -> list[Requirement]:
    """Return what the package itself needs, with all its extras."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    return [Requirement(line) for text in texts for line in text.split("\n") if line]


def test_everything_is_pinned_with_hashes() -> None:
    for line in PINNED.values():
        (pin,) = named(line).specifier
        assert pin.operator == "==", line
        assert "--hash=sha256:" in line, line


@pytest.mark.parametrize("requirement", ASKED, ids=str)
def test_what_people_ask_for_is_what_is_pinned(requirement: Requirement) -> None:
    assert named(PINNED[canonicalize_name(requirement.name)]).specifier == requirement.specifier


@pytest.mark.parametrize("requirement", allowed(), ids=str)
def test_what_is_pinned_is_what_the_package_allows(requirement: Requirement) -> None:
    (pin,) = named(PINNED[canonicalize_name(requirement.name)]).specifier
    assert requirement.specifier.contains(pin.version)
