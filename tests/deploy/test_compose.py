"""The containers that belong together: valid, confined, and true to what they mount."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest_service import gunicorn_conf
from ingest_service.settings import Settings
from tests.crash.server import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["service", "migrate", "replica-1", "replica-2", "worker"]


def test_it_keeps_the_schema() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    ran = subprocess.run(  # noqa: S603
        [checker, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout


def test_each_profile_has_what_it_promises() -> None:
    """Without a word only the service itself: what is in no profile would run beside it."""
    by_profile: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        (profile,) = service["profiles"]
        by_profile.setdefault(profile, set()).add(name)
    assert by_profile == {
        "embedded": {"service"},
        "scaled": {"postgres", "migrate", "replica-1", "replica-2", "worker", "proxy"},
        "observed": {"prometheus", "grafana"},
    }
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert "COMPOSE_PROFILES=embedded\n" in (DEPLOY / ".env").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_has_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"][0].startswith("/tmp:")  # noqa: S108 - that of a container
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), port
    for variable in service.get("environment", {}):
        assert "PASSWORD" not in variable or variable.endswith("_FILE"), variable


@pytest.mark.parametrize("name", OURS)
def test_the_settings_are_settings(name: str) -> None:
    given = SERVICES[name]["environment"]
    defaults = {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text) for key, text in given.items()}
    Settings.from_env(defaults)
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert seconds > gunicorn_conf.graceful_timeout


def test_what_is_mounted_and_named_is_there() -> None:
    for config in COMPOSE["configs"].values():
        assert "content" in config or (DEPLOY / config["file"]).is_file()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), source
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]
        assert set(service["networks"]) <= set(COMPOSE["networks"])
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy/secrets/" in ignored
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("secrets/")


def test_the_dashboard_is_where_grafana_looks_for_it() -> None:
    provider = yaml.safe_load(
        (DEPLOY / "grafana" / "provisioning" / "dashboards" / "ingest.yml").read_text()
    )
    (folder,) = [each["options"]["path"] for each in provider["providers"]]
    targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{folder}/ingest.json" in targets


def test_prometheus_and_the_proxy_look_for_services_that_there_are() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text())
    (names,) = [each["names"] for each in scraped["scrape_configs"][0]["dns_sd_configs"]]
    assert set(names) == {"service", "replica-1", "replica-2"}
    allowed = SERVICES["service"]["environment"]["INGEST_ALLOWED_HOSTS"].split(",")
    assert set(names) <= set(allowed)
    replicas = re.findall(
        r"^server ([\w-]+):8000 ", COMPOSE["configs"]["replicas"]["content"], re.M
    )
    assert replicas == ["replica-1", "replica-2"]
