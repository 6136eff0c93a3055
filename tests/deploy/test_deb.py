"""The Debian package, installed by apt into a bare Debian and run there by a real systemd (in a container).

Long: run with ZTPIPE_LONG=1. The tests use one machine, in the order in which they stand here: what an administrator
does with the package, from replacing the reference's to purging it.
"""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.containers import BUILD_OPTIONS, HOME, NEEDED, ROOT, TUN, Container, eventually, podman
from ztpipe.lab import Lab
from ztpipe.wire.identity import Identity

pytestmark = NEEDED
NWID = "8056c2e21c000001"
IDENTITY = Identity.generate(lambda length: secrets.token_bytes(length))
UNIT = "zerotier-one.service"

#: A bare Debian with systemd, on which the reference's package was in use; then ours takes its place.
_MACHINE = f"""
FROM {{base}}
RUN apt-get update && apt-get install -y --no-install-recommends systemd systemd-sysv
COPY zerotier-one.deb needs.deb identity.secret identity.public /root/
RUN dpkg -i /root/zerotier-one.deb /root/needs.deb \\
    && mkdir -m 0755 {HOME} {HOME}/networks.d && cp /root/identity.* {HOME}/ && touch {HOME}/networks.d/{NWID}.conf
COPY ztpipe.deb /root/
RUN apt-get install -y --no-install-recommends /root/ztpipe.deb
COPY newer.deb /root/
"""


def package(directory: Path, file: str, control: str, files: dict[str, str]) -> None:
    """A package of a few text files."""
    tree = directory / f"{file}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"{control}Architecture: all\nMaintainer: a test <test@localhost>\nDescription: for a test\n"
    )
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, directory / file], check=True, timeout=60)


def build_deb(directory: Path, *options: str) -> Path:
    words = [ROOT / "deploy" / "build-deb.sh", "-o", directory, *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package, a newer one that has another version of the configuration file, and two others'."""
    directory = tmp_path_factory.mktemp("deb")
    build_deb(directory).rename(directory / "ztpipe.deb")
    tree = directory / "newer"
    subprocess.run(["dpkg-deb", "-R", directory / "ztpipe.deb", tree], check=True, timeout=60)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*", r"\g<0>+1", control.read_text(), flags=re.MULTILINE))
    with open(tree / "etc" / "default" / "zerotier-one", "a") as file:
        file.write("# a line of the newer version\n")
    subprocess.run(["dpkg-deb", "-Zgzip", "--build", tree, directory / "newer.deb"], check=True, timeout=120)
    package(
        directory,
        "zerotier-one.deb",
        "Package: zerotier-one\nVersion: 1.14.1\n",
        {"usr/sbin/zerotier-one": "#!/bin/sh\n", f"lib/systemd/system/{UNIT}": "[Service]\nExecStart=/bin/true\n"},
    )
    package(directory, "needs.deb", "Package: needs\nVersion: 1\nDepends: zerotier-one (>= 1.10)\n", {})
    (directory / "identity.secret").write_text(IDENTITY.text(private=True))
    (directory / "identity.public").write_text(IDENTITY.text())
    return directory


class Machine(Container):
    """A container that systemd runs."""

    def sh(self, command: str) -> str:
        done = self.exec("sh", "-c", command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.sh(f"systemctl show -P {name} {UNIT}")

    def journal(self) -> str:
        return self.exec("journalctl", "-u", UNIT, "--no-pager").stdout


@pytest.fixture(scope="module")
def machine(built: Path) -> Iterator[Machine]:
    script = ROOT / "deploy" / "build-image.sh"
    subprocess.run([script, "-B"], check=True, timeout=300)
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    base = f"localhost/ztpipe-base:bookworm-{architecture.stdout.strip()}"
    (built / "Dockerfile").write_text(_MACHINE.format(base=base))
    image = f"localhost/ztpipe-test:{secrets.token_hex(4)}"
    done = subprocess.run(
        ["buildah", "bud", *BUILD_OPTIONS, "-t", image, built], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with Lab("zpd") as lab:
        inside, outside = lab.namespace("m"), lab.namespace("o")
        lab.cable(inside, "eth0", ["10.66.47.1/24"], outside, plug="eth0", other_addresses=["10.66.47.2/24"])
        network = ["--network", f"ns:/run/netns/{inside.name}"]
        machine = Machine(image, [*TUN, "--systemd=always", *network], ["/sbin/init"])
        try:
            eventually(lambda: machine.exec("systemctl", "is-active", UNIT).stdout == "active\n", machine.journal, 90)
            yield machine
        finally:
            machine.remove()
            podman("rmi", "--force", image, check=False)


def sockets(machine: Machine) -> dict[str, str]:
    """Listening and datagram sockets of port 9993: what and where -> inode."""
    lines = machine.sh("ss -Hlntue 'sport = :9993'").splitlines()
    return {" ".join(line.split()[::4][:2]): line.split("ino:")[1].split()[0] for line in lines}


# The package


def test_it_took_the_place_of_the_reference_and_its_home(machine: Machine) -> None:
    states = machine.sh("dpkg-query -W -f '${Package} ${db:Status-Status}\\n' ztpipe zerotier-one needs || true")
    assert {"ztpipe installed", "needs installed"} <= set(states.splitlines())
    assert "zerotier-one installed" not in states
    assert machine.up() == f"{IDENTITY.address:010x}"
    assert machine.cli("get", NWID, "status") == "REQUESTING_CONFIGURATION\n", "its networks are joined"
    assert machine.sh(f"stat -c '%U %a' {HOME} {HOME}/identity.secret") == "zerotier-one 755\nzerotier-one 600"


def test_everything_that_belongs_to_it_is_there(machine: Machine) -> None:
    assert machine.sh("dpkg --verify ztpipe") == ""
    for page in ("man8/zerotier-one.8", "man1/zerotier-cli.1", "man1/zerotier-idtool.1", "man1/ztpipe.1"):
        assert ".Sh NAME" in machine.sh(f"zcat /usr/share/man/{page}.gz")
    script = ". /usr/share/bash-completion/completions/zerotier-cli; complete -p zerotier-cli ztpipe"
    assert machine.sh(f"bash -c '{script}'").count("complete") == 2
    identity = machine.sh("zerotier-idtool generate")
    assert machine.sh(f"zerotier-idtool validate {identity}").endswith("is a valid identity")
    assert machine.sh("ztpipe --version")
    assert machine.sh("grep -rl /var/tmp /usr/lib/ztpipe/bin || true") == "", "nothing of the place where it was built"
    assert machine.sh("find /usr/lib/ztpipe -newer /var/lib/dpkg/info/ztpipe.list") == "", "it writes nothing there"


# The unit under systemd


def test_service_is_ready_and_confined(machine: Machine) -> None:
    assert machine.show("StatusText") == f"node {IDENTITY.address:010x} on port 9993"
    status = machine.sh(f"cat /proc/{machine.show('MainPID')}/status")
    uid = machine.sh("id -u zerotier-one")
    assert f"Uid:\t{uid}\t{uid}" in status
    assert "CapBnd:\t0000000000001400" in status, "CAP_NET_ADMIN and CAP_NET_BIND_SERVICE"
    assert "NoNewPrivs:\t1" in status
    assert "not filtered" not in machine.journal(), "the workers' filter of system calls fits into the unit's"
    assert "Seccomp:\t2" in status
    device = machine.cli("get", NWID, "portDeviceName").strip()
    assert machine.sh(f"cat /sys/class/net/{device}/operstate")


def test_reload_keeps_sockets_devices_and_processes(machine: Machine) -> None:
    before = sockets(machine)
    assert len(before) == 5, "TCP for both families, of this host and of others, and UDP on the device"
    script = "tr '\\0' ' ' </proc/$p/cmdline | grep -e '[z]erotier-one -U' -e '[s]pawn_main' && echo $p"
    tasks = f"for p in $(ls /proc | grep '^[0-9]'); do {script}; done; true"
    processes, device = machine.sh(tasks), machine.sh("ip -br link show type tun")
    machine.sh("""echo '{"settings": {"allowManagementFrom": ["192.0.2.0/24"]}}' >""" + f"{HOME}/local.conf")
    machine.sh(f"systemctl reload {UNIT}")
    eventually(lambda: "local.conf taken" in machine.journal(), machine.journal)
    assert sockets(machine) == before
    assert (machine.sh(tasks), machine.sh("ip -br link show type tun")) == (processes, device)
    machine.sh(f"echo '{{' >{HOME}/local.conf; systemctl reload {UNIT}")
    eventually(lambda: machine.show("StatusText") == "local.conf not taken, see the log", machine.journal)
    assert machine.show("ActiveState") == "active"
    machine.sh(f"rm {HOME}/local.conf; systemctl reload {UNIT}")
    eventually(lambda: machine.show("StatusText").startswith("node "), machine.journal)


@pytest.mark.parametrize("how", ["systemctl restart " + UNIT, f"systemctl kill -s KILL --kill-who=main {UNIT}"])
def test_who_asks_during_a_restart_waits(machine: Machine, how: str) -> None:
    def listeners() -> dict[str, str]:
        return {name: inode for name, inode in sockets(machine).items() if name.startswith("tcp")}

    before, pid = listeners(), machine.show("MainPID")
    assert len(before) == 4
    asked = "for i in 1 2 3 4 5 6 7 8; do zerotier-cli info || exit 1; done"
    answers = machine.sh(f"({how}) & ({asked})")
    assert answers.count("200 info") == 8
    eventually(lambda: machine.show("SubState") == "running" and machine.show("MainPID") != pid, machine.journal)
    assert listeners() == before


def test_watchdog_restarts_a_node_that_hangs(machine: Machine) -> None:
    machine.sh(f"mkdir -p /run/systemd/system/{UNIT}.d")
    machine.sh(
        f"printf '[Service]\\nWatchdogSec=4\\n' >/run/systemd/system/{UNIT}.d/test.conf; systemctl daemon-reload"
    )
    machine.sh(f"systemctl restart {UNIT}")
    pid = machine.show("MainPID")
    machine.sh(f"kill -STOP {pid}")
    eventually(lambda: "Watchdog timeout" in machine.journal(), machine.journal, 60)
    eventually(lambda: machine.show("SubState") == "running" and machine.show("MainPID") != pid, machine.journal, 60)
    machine.sh(f"rm -r /run/systemd/system/{UNIT}.d; systemctl daemon-reload; systemctl restart {UNIT}")


# The end of it


def test_upgrade_restarts_and_keeps_what_was_changed(machine: Machine) -> None:
    machine.sh("echo ZTPIPE_LOG_FORMAT=text >>/etc/default/zerotier-one")
    pid = machine.show("MainPID")
    machine.sh("dpkg --force-confdef --force-confold -i /root/newer.deb")
    assert machine.show("MainPID") != pid
    assert machine.up() == f"{IDENTITY.address:010x}"
    assert machine.sh("tail -n 1 /etc/default/zerotier-one") == "ZTPIPE_LOG_FORMAT=text"
    assert re.search(r"\]: .* node up .*address=", machine.journal()), "and the service has it in its environment"


def test_disabled_stays_disabled(machine: Machine) -> None:
    machine.sh(f"systemctl disable --now {UNIT}")
    machine.sh("dpkg --force-confold -i /root/newer.deb")
    assert machine.exec("systemctl", "is-enabled", UNIT).stdout == "disabled\n"
    machine.sh(f"systemctl enable --now {UNIT}")
    machine.up()


def test_remove_keeps_the_home_and_purge_takes_it(machine: Machine) -> None:
    machine.sh("dpkg -r needs ztpipe")
    assert machine.sh("ps -e -o args 2>/dev/null | grep [z]erotier-one || true") == ""
    assert machine.exec("ls", "/usr/lib/ztpipe").returncode != 0
    assert machine.sh(f"cat {HOME}/identity.public") == IDENTITY.text()
    assert "ZTPIPE_LOG_FORMAT=text" in machine.sh("cat /etc/default/zerotier-one")

    machine.sh("dpkg -i /root/zerotier-one.deb && dpkg -P ztpipe")
    assert machine.sh(f"ls {HOME}/identity.secret"), "it is the home of another package's node now"
    assert machine.exec("ls", "/etc/default/zerotier-one").returncode != 0

    machine.sh("apt-get install -y /root/ztpipe.deb")
    assert machine.up() == f"{IDENTITY.address:010x}"
    machine.sh("dpkg -P ztpipe")
    assert machine.exec("ls", HOME).returncode != 0
    left = machine.sh(
        "find /etc /lib/systemd /usr/lib /usr/sbin /usr/bin /usr/share -name '*zerotier*' -o -name '*ztpipe*'"
    )
    assert left == ""
