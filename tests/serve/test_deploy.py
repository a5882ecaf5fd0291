"""The examples of deployment: what they call exists, and systemd finds no fault in the unit."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from understudy.cli import app

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def takes(arguments: list[str]) -> None:
    """The command line parses these arguments."""
    root = get_command(app)
    assert arguments[0] == "serve"
    group = root.commands["serve"]  # pyright: ignore[reportAttributeAccessIssue]
    run = group.commands["run"]
    run.make_context("serve", list(arguments[1:]))


def test_every_service_serves_with_options_that_there_are() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    gateways = [service for service in compose["services"].values() if service.get("command", [""])[0] == "serve"]
    assert len(gateways) == 2
    for service in gateways:
        takes(service["command"])
        drain = int(service["command"][service["command"].index("--drain") + 1])
        assert int(service["stop_grace_period"].rstrip("s")) > drain
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).is_file()
    for name in ("prometheus/prometheus.yml", "grafana/datasource.yaml"):
        assert yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def test_the_unit_of_systemd_is_sound(tmp_path: Path) -> None:
    text = (DEPLOY / "understudy.service").read_text(encoding="utf-8")
    command = re.search(r"^ExecStart=(\S+) (.*)$", text, re.MULTILINE)
    assert command is not None
    takes(shlex.split(command[2]))
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("systemd-analyze is not here")
    # Where the example puts the program there is none here.
    program = tmp_path / "understudy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "understudy.service"
    unit.write_text(text.replace(command[1], str(program)), encoding="utf-8")
    done = subprocess.run([analyse, "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "understudy.service" not in done.stderr
