"""What is in deploy/ fits the program: metrics, options, files and settings exist, and the formats are right."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runtime.snapshots import snapshot
from tests.runtime.test_metrics import samples
from ztpipe.cli import one
from ztpipe.runtime.metrics import render

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_FUNCTIONS = {
    "increase", "rate", "sum", "max", "min", "count", "by", "on", "and", "group_left", "humanize", "label_values", "up",
}  # fmt: skip


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Metric name -> its label names, as a scrape shows them, and those that Prometheus adds."""
    found: dict[str, set[str]] = {"up": {"job", "instance"}}
    for name, inner in samples(render(snapshot())):
        labels = set(re.findall(r'(\w+)="', inner))
        found.setdefault(name, {"job", "instance"}).update(labels)
    return found


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def check_expression(expression: str, exported: dict[str, set[str]]) -> None:
    """Every metric exists; every label matched or grouped by is one of a metric in the expression."""
    plain = re.sub(r'"[^"]*"|\$\w+|\[[^\]]*\]', " ", expression)
    groupings = re.findall(r"\b(?:by|on|group_left)\s*\(([^)]*)\)", plain)
    matched = [match for inner in re.findall(r"\{([^}]*)\}", plain) for match in re.findall(r"\w+", inner)]
    grouped = [label for inner in groupings for label in re.findall(r"\w+", inner)]
    rest = re.sub(r"\{[^}]*\}|\b(?:by|on|group_left)\s*\([^)]*\)", " ", plain)
    metrics = {name for name in re.findall(r"\b[a-zA-Z_]\w*\b", rest) if name == "up" or name not in _FUNCTIONS}
    assert metrics, expression
    assert metrics <= exported.keys(), f"{expression}: no metric {metrics - exported.keys()}"
    labels = set.union(*(exported[name] for name in metrics))
    assert {*matched, *grouped} <= labels, f"{expression}: no label {({*matched, *grouped}) - labels}"


def alerts() -> Iterator[Any]:
    (document,) = documents(DEPLOY / "prometheus" / "alerts.yml")
    for group in document["groups"]:
        yield from group["rules"]


@pytest.mark.parametrize("alert", list(alerts()), ids=lambda alert: str(alert["alert"]))
def test_alert(alert: Any, exported: dict[str, set[str]]) -> None:
    check_expression(alert["expr"], exported)
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    used = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
    assert used <= set.union(*exported.values())
    assert re.fullmatch(r"\d+[smh]", alert.get("for", "1m"))


def test_expressions_are_checked_at_all(exported: dict[str, set[str]]) -> None:
    for wrong in ("rate(no_such_metric[5m])", 'zt_data{no_label="x"}', "sum by (nothing) (zt_data)"):
        with pytest.raises(AssertionError):
            check_expression(wrong, exported)


def test_scrape_configuration() -> None:
    (document,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    assert [(DEPLOY / "prometheus" / name).exists() for name in document["rule_files"]] == [True]
    (job,) = document["scrape_configs"]
    assert (job["metrics_path"], job["authorization"]["type"]) == ("/metrics", "Bearer")
    assert f'job="{job["job_name"]}"' in (DEPLOY / "prometheus" / "alerts.yml").read_text()


def test_dashboard(exported: dict[str, set[str]]) -> None:
    board = json.loads((DEPLOY / "grafana" / "ztpipe.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 10
    variables = {variable["name"] for variable in board["templating"]["list"]}
    places: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            check_expression(target["expr"], exported)
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert (place["x"], place["y"]) not in places
        places.add((place["x"], place["y"]))


# Containers


def test_dockerfile() -> None:
    lines = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text()).splitlines()
    steps = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    assert [rest for step, rest in steps if step == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert {"BASE=debian:bookworm-slim", "PACKAGE_BASEURL=", "VERSION=", "ARCH="} <= {
        rest for step, rest in steps if step == "ARG"
    }
    copied = [rest.split()[-2] for step, rest in steps if step == "COPY" and "--from" not in rest]
    assert all((ROOT / source).exists() for source in copied), copied
    assert copied[1:] == ["deploy/entrypoint.sh", "deploy/healthcheck.sh"]
    assert steps[-1] == ["ENTRYPOINT", '["/entrypoint.sh"]']
    for step, rest in steps:
        if step == "RUN":
            assert subprocess.run(["sh", "-n", "-c", rest], check=False).returncode == 0, rest


def test_dockerfile_links_every_program() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    programs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (linked,) = re.findall(r"for name in ([\w\- ]+);", text)
    assert sorted(linked.split()) == sorted(programs)


def test_build_context_has_what_the_build_needs() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"deploy", "ztpipe", "setup.py", "pyproject.toml", "LICENSE"} & set(ignored)


@pytest.mark.parametrize(
    "path",
    [DEPLOY / "entrypoint.sh", DEPLOY / "healthcheck.sh", *(DEPLOY / "debian").glob("p*")],
    ids=lambda path: path.name,
)
def test_scripts_are_sound_shell(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    for shell in ("sh", "bash"):
        assert subprocess.run([shell, "-n", path], check=False).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", path], check=False).returncode == 0


def entrypoint_variables() -> set[str]:
    names = set(re.findall(r"setting (ZEROTIER_\w+)", (DEPLOY / "entrypoint.sh").read_text()))
    return {*names, *(f"{name}_FILE" for name in names), "ZEROTIER_HOME"}


def test_entrypoint_knows_the_variables_of_the_reference() -> None:
    names = {"JOIN_NETWORKS", "API_SECRET", "IDENTITY_PUBLIC", "IDENTITY_SECRET"}
    assert {f"ZEROTIER_{name}" for name in names} <= entrypoint_variables()


def test_compose() -> None:
    (document,) = documents(DEPLOY / "compose" / "compose.yaml")
    (service,) = document["services"].values()
    context = DEPLOY / "compose" / service["build"]["context"]
    assert (context / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert set(service["environment"]) <= entrypoint_variables()
    assert "NET_ADMIN" in service["cap_add"]
    assert service["devices"] == ["/dev/net/tun:/dev/net/tun"]
    assert all(volume.split(":")[0] in document["volumes"] for volume in service["volumes"])
    assert set(service["secrets"]) <= set(document["secrets"])


def workloads() -> Iterator[Any]:
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from (found for found in documents(path) if found["kind"] in ("DaemonSet", "StatefulSet"))


@pytest.mark.parametrize("workload", list(workloads()), ids=lambda workload: str(workload["kind"]))
def test_kubernetes_workload(workload: Any) -> None:
    spec = workload["spec"]["template"]["spec"]
    assert workload["spec"]["selector"]["matchLabels"] == workload["spec"]["template"]["metadata"]["labels"]
    claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())]
    volumes = {volume["name"] for volume in spec["volumes"]} | set(claims)
    (container,) = spec["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == volumes
    assert {"/dev/net/tun", "/var/lib/zerotier-one"} <= set(mounts)
    assert "NET_ADMIN" in container["securityContext"]["capabilities"]["add"]
    assert {variable["name"] for variable in container["env"]} <= entrypoint_variables()
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        words = " ".join(container[probe]["exec"]["command"])
        assert re.search(r"zerotier-cli \"?/(livez|readyz\?network=)", words), words


def test_kubernetes_documents_are_complete() -> None:
    for path in (DEPLOY / "kubernetes").glob("*.yaml"):
        for document in documents(path):
            assert {"apiVersion", "kind", "metadata"} <= document.keys()


# systemd


def unit() -> dict[str, list[str]]:
    """Key -> values, of all sections together."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / "zerotier-one.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_unit_starts_what_exists() -> None:
    keys = unit()
    program, *words = keys["ExecStart"][0].split()
    assert program == "/usr/sbin/zerotier-one"
    assert one.parse(words).unprivileged
    assert (keys["Type"], keys["KillMode"]) == (["notify"], ["mixed"])
    assert "CAP_NET_ADMIN" in keys["AmbientCapabilities"][0]
    assert keys["DeviceAllow"] == ["/dev/net/tun rw"]
    user = (DEPLOY / "systemd" / "zerotier-one.sysusers").read_text().splitlines()[-1].split()
    assert user[:2] == ["u", keys["User"][0]]
    assert keys["ReadWritePaths"][0].lstrip("-") in user


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NOT TESTED: apt-get install systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """With a program that exists, and without looking for the man pages, which are not installed here."""
    text = (DEPLOY / "systemd" / "zerotier-one.service").read_text()
    path = tmp_path / "zerotier-one.service"
    path.write_text(text.replace("/usr/sbin/zerotier-one", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(path.read_text().replace("ProtectProc=", "ProtectNothing="))
    assert "ProtectNothing" in subprocess.run(command, capture_output=True, text=True, timeout=50, check=False).stderr


def test_unit_has_the_capabilities_that_are_needed_and_no_others() -> None:
    keys = unit()
    assert keys["AmbientCapabilities"] == keys["CapabilityBoundingSet"] == ["CAP_NET_ADMIN CAP_NET_BIND_SERVICE"]
    assert "seccomp" in keys["SystemCallFilter"][0].split(), "the workers' own filter"


def test_sysctl_settings_exist() -> None:
    for line in (DEPLOY / "systemd" / "90-zerotier-one.conf").read_text().splitlines():
        setting = line.lstrip("#").strip()
        if re.fullmatch(r"[\w.]+ = \d+", setting):
            name = setting.split(" ")[0]
            assert Path("/proc/sys", *name.split(".")).exists(), name
