"""The examples of deployment: what they call exists, and systemd finds no fault in the unit."""

from __future__ import annotations

import itertools
import json
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
    for name in ("grafana/datasource.yaml", "grafana/dashboards.yaml"):
        assert yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def test_prometheus_asks_where_figures_are_and_with_their_token() -> None:
    """Each target is a service at the port of its monitor, which listens beyond its container and wants the token."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    jobs = {job["job_name"]: job for job in scraped}
    targets = [target.split(":") for static in jobs["student"]["static_configs"] for target in static["targets"]]
    assert {name for name, _ in targets} == {"student", "student-vllm"}
    databases = []
    for name, port in targets:
        command = compose["services"][name]["command"]
        options = dict(itertools.pairwise(command))
        assert options["--monitor-port"] == port
        assert options["--monitor-host"] == "0.0.0.0"
        assert "UNDERSTUDY_MONITOR_TOKEN" in compose["services"][name]["environment"]
        databases.append(options["--monitor"])
    assert len(set(databases)) == len(databases)
    secret = Path(jobs["student"]["authorization"]["credentials_file"]).name
    assert secret in compose["services"]["prometheus"]["secrets"]
    assert secret in compose["secrets"]


def test_every_panel_shows_a_figure_that_there_is() -> None:
    pytest.importorskip("prometheus_client")
    from understudy.monitor.figures import Figures
    from understudy.serve.exchange import Exchange

    figures = Figures()
    figures.count(Exchange("id", 0.0, "/v1/answer", None, "student", first_seconds=0.1))
    given = set(re.findall(r"^# TYPE (\w+)", figures.text().decode(), re.MULTILINE))
    board = json.loads((DEPLOY / "grafana/student.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"understudy_\w+", expression)}
    assert len(shown) > 6
    assert {name.removesuffix("_bucket") for name in shown} <= given
    source = yaml.safe_load((DEPLOY / "grafana/datasource.yaml").read_text(encoding="utf-8"))["datasources"][0]["uid"]
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source}


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
