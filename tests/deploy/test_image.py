"""The container image, built and run as deploy/build-image.sh says: with buildah, podman and runc, as root.

Long: the base image is made by debootstrap at the first run, and kept. Run with ZTPIPE_LONG=1.
"""

from __future__ import annotations

import functools
import http.server
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.deploy.containers import HOME, NEEDED, ROOT, TUN, Container, eventually, podman
from ztpipe.lab import Gateway, Lab
from ztpipe.lab.nodes import moon, private_planet
from ztpipe.lab.traffic import ping
from ztpipe.wire.identity import Identity

NWID, OTHER = "8056c2e21c000001", "142b028c0f90dc4a"
pytestmark = NEEDED


def build(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    words = [ROOT / "deploy" / "build-image.sh", "-t", name, "-C", ROOT, "--", *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image of this checkout."""
    name = f"localhost/ztpipe-test:{secrets.token_hex(4)}"
    done = build(name)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    yield name
    podman("rmi", "--force", name, check=False)


@pytest.fixture
def run(image: str) -> Iterator[Callable[..., Container]]:
    """run(option..., arguments=[...]) starts a container."""
    started: list[Container] = []

    def start(*options: str, arguments: Sequence[str] = ()) -> Container:
        started.append(Container(image, options, arguments))
        return started[-1]

    yield start
    for container in started:
        container.remove()


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"ztpipe-test-{secrets.token_hex(4)}"
    podman("volume", "create", name)
    yield name
    podman("volume", "rm", "--force", name, check=False)


# Joining


def test_join_from_arguments_and_environment(run: Callable[..., Container], tmp_path: Path) -> None:
    container = run(*TUN, "-e", f"ZEROTIER_JOIN_NETWORKS={OTHER}", arguments=[NWID])
    container.up()
    for network in (NWID, OTHER):
        assert container.cli("get", network, "status") == "REQUESTING_CONFIGURATION\n"
        device = container.cli("get", network, "portDeviceName").strip()
        assert container.exec("ip", "link", "show", device).returncode == 0
    from_file = tmp_path / "networks"
    from_file.write_text(f"{OTHER}\n{NWID}\n")
    from_file.chmod(0o644)
    container = run(*TUN, "-v", f"{from_file}:/run/networks:ro", "-e", "ZEROTIER_JOIN_NETWORKS_FILE=/run/networks")
    container.up()
    assert len(container.cli("listnetworks").splitlines()) == 3


def test_identity_and_token_from_the_environment(run: Callable[..., Container]) -> None:
    identity = Identity.generate(os.urandom)
    secret, public = identity.text(private=True), identity.text()
    container = run(
        *TUN, "-e", "ZEROTIER_API_SECRET=sesame\n", "-e", f"ZEROTIER_IDENTITY_SECRET={secret}", "-e",
        f"ZEROTIER_IDENTITY_PUBLIC={public}",
    )  # fmt: skip
    assert container.up() == f"{identity.address:010x}"
    assert container.read("authtoken.secret") == "sesame", "no newline behind it"
    assert container.read("identity.secret") == secret
    assert container.exec("stat", "-c", "%a", f"{HOME}/identity.secret").stdout == "600\n"
    pid = podman("inspect", container.name, "-f", "{{.State.Pid}}").stdout.strip()
    variables = Path(f"/proc/{pid}/environ").read_text()  # from outside: inside, it is another user's
    assert "ZEROTIER_HOME=" in variables
    assert "SECRET" not in variables, "the node's own environment has no secrets"
    assert secret not in container.logs()


def test_identity_and_token_from_files(run: Callable[..., Container], tmp_path: Path) -> None:
    identity = Identity.generate(os.urandom)
    files = {"SECRET": identity.text(private=True), "PUBLIC": identity.text(), "token": "sesame"}
    options = []
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
        variable = "ZEROTIER_API_SECRET" if name == "token" else f"ZEROTIER_IDENTITY_{name}"
        options += ["-v", f"{tmp_path / name}:/run/secrets/{name}:ro", "-e", f"{variable}_FILE=/run/secrets/{name}"]
    container = run(*TUN, *options)
    assert container.up() == f"{identity.address:010x}"
    assert container.read("authtoken.secret") == "sesame"
    assert container.read("identity.public") == identity.text()


# What is missing or wrong is said in one line


def errors(container: Container) -> list[str]:
    """What is told but for the steps that succeeded."""
    assert container.ended() == 1
    steps = ("=> ", '{"event": "privileges dropped"')
    return [line for line in container.logs().splitlines() if not line.startswith(steps)]


def test_missing_device(run: Callable[..., Container]) -> None:
    (line,) = errors(run("--cap-add", "NET_ADMIN", arguments=[NWID]))
    assert "/dev/net/tun is missing" in line
    assert "--device /dev/net/tun" in line


def test_missing_capability(run: Callable[..., Container]) -> None:
    (line,) = errors(run("--device", "/dev/net/tun", arguments=[NWID]))
    assert "CAP_NET_ADMIN" in line


def test_wrong_identity(run: Callable[..., Container]) -> None:
    (line,) = errors(run(*TUN, "-e", "ZEROTIER_IDENTITY_SECRET=0123456789:0:nonsense", arguments=[NWID]))
    assert "identity.secret" in line


def test_identities_that_do_not_belong_together(run: Callable[..., Container], volume: str) -> None:
    """The secret one counts, and the public file follows it."""
    secret, other = Identity.generate(os.urandom), Identity.generate(os.urandom)
    container = run(
        *TUN, "-e", f"ZEROTIER_IDENTITY_SECRET={secret.text(private=True)}", "-e",
        f"ZEROTIER_IDENTITY_PUBLIC={other.text()}",
    )  # fmt: skip
    assert container.up() == f"{secret.address:010x}"
    assert container.read("identity.public") == secret.text()


# Life


def test_stop_is_orderly_and_a_second_run_on_the_volume_is_the_same_node(
    run: Callable[..., Container], volume: str
) -> None:
    addresses, listed = set(), set()
    for _ in range(2):
        container = run(*TUN, "-v", f"{volume}:{HOME}", "-e", "ZEROTIER_API_SECRET=sesame", arguments=[NWID])
        addresses.add(container.up())
        listed.add(container.exec("ls", f"{HOME}/networks.d").stdout)
        before = time.monotonic()
        assert container.stop() == 0
        assert time.monotonic() - before < 9, "it was not killed after the ten seconds"
        assert '"stopping"' in container.logs()
        shown = podman("run", "--rm", "--network", "none", "--entrypoint", "ls", "-v", f"{volume}:{HOME}",
                       "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
                       podman("inspect", container.name, "-f", "{{.ImageName}}").stdout.strip(), HOME)  # fmt: skip
        assert "identity.secret" in shown.stdout
        assert "zerotier-one.pid" not in shown.stdout, "removed at the end of an orderly stop"
        container.remove()
    assert len(addresses) == 1
    assert len(listed) == 1


def test_killed_container_starts_again(run: Callable[..., Container], volume: str) -> None:
    container = run(*TUN, "-v", f"{volume}:{HOME}", arguments=[NWID])
    address = container.up()
    podman("kill", container.name)
    podman("start", container.name)
    assert container.up() == address
    assert container.cli("get", NWID, "status") == "REQUESTING_CONFIGURATION\n"


@pytest.mark.parametrize("home", ["tmpfs", "volume"])
def test_read_only_root(run: Callable[..., Container], volume: str, home: str) -> None:
    mounted = ["--tmpfs", HOME] if home == "tmpfs" else ["-v", f"{volume}:{HOME}"]
    container = run(*TUN, "--read-only", "--read-only-tmpfs=false", *mounted, arguments=[NWID])
    container.up()
    assert container.exec("touch", "/file").returncode != 0
    assert container.cli("get", NWID, "status") == "REQUESTING_CONFIGURATION\n"
    assert container.stop() == 0


_PROCESSES = "for p in /proc/[0-9]*; do echo $(cat $p/comm) $(grep -E '^(Uid|CapEff)' $p/status); done"


def test_node_is_not_root(run: Callable[..., Container]) -> None:
    """With the capabilities that compose.yaml and the Kubernetes examples give, and no others."""
    capabilities = [f"--cap-add={name}" for name in ("SETUID", "SETGID", "SETPCAP", "CHOWN", "DAC_OVERRIDE")]
    container = run("--cap-drop=ALL", *capabilities, *TUN, "--security-opt", "no-new-privileges", arguments=[NWID])
    container.up()
    uid = container.exec("id", "-u", "zerotier-one").stdout.strip()

    def workers() -> list[list[str]]:
        lines = [line.split() for line in container.exec("sh", "-c", _PROCESSES).stdout.splitlines()]
        return [words for words in lines if words[:1] == ["zt"]]

    eventually(lambda: len(workers()) >= 3, container.logs)
    for words in workers():
        assert words[3] == uid
        assert int(words[-1], 16) == 0
    told = container.exec("cat", "/proc/1/status").stdout
    assert f"Uid:\t{uid}\t" in told
    assert "CapEff:\t0000000000001000\n" in told
    assert container.cli("get", NWID, "portDeviceName").startswith("zt"), "it opens devices still"


def test_as_another_user(run: Callable[..., Container]) -> None:
    """--user: podman makes the capability ambient; an engine that does not gets the line about CAP_NET_ADMIN."""
    container = run(
        *TUN, "--user", "1234:1234", "--tmpfs", f"{HOME}:mode=0777", "-v", "/dev/null:/ignored", arguments=[NWID]
    )
    eventually(lambda: "node up" in container.logs() or "CAP_NET_ADMIN" in container.logs(), container.logs)
    if "node up" in container.logs():
        assert "Uid:\t1234\t" in container.exec("cat", "/proc/1/status").stdout


def test_in_256_megabytes(run: Callable[..., Container]) -> None:
    """No swap, the whole container in it; what the node takes is some 150 MB."""
    container = run(*TUN, "--memory=256m", "--memory-swap=256m", arguments=[NWID, OTHER])
    container.up()
    eventually(lambda: container.cli("get", OTHER, "portDeviceName").startswith("zt"), container.logs)
    for _ in range(20):
        assert container.cli("listnetworks").count("REQUESTING_CONFIGURATION") == 2
    said = podman("inspect", container.name, "-f", "{{.State.OOMKilled}} {{.HostConfig.Memory}}").stdout.split()
    assert said == ["false", str(256 << 20)]
    assert "restarted" not in container.logs(), "no worker was killed for want of memory"


# Health


def test_health_follows_the_networks(run: Callable[..., Container]) -> None:
    """The node is the controller of its own network, so that it can become OK."""
    identity = Identity.generate(os.urandom)
    nwid = f"{identity.address:010x}000001"
    container = run(*TUN, "-e", f"ZEROTIER_IDENTITY_SECRET={identity.text(private=True)}", arguments=[nwid])
    container.up()
    assert podman("healthcheck", "run", container.name, check=False).returncode == 1, "not authorised yet"
    for path, body in (
        (f"network/{nwid}", {"private": True}),
        (f"network/{nwid}/member/{identity.address:010x}", {"authorized": True}),
    ):
        script = f"""
import json, urllib.request
token = open({HOME!r} + "/authtoken.secret").read()
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:9993/controller/{path}",
    json.dumps({body!r}).encode(), {{"X-ZT1-Auth": token}}))
"""
        done = container.exec("/opt/ztpipe/bin/python", "-c", script)
        assert done.returncode == 0, done.stderr
    eventually(lambda: podman("healthcheck", "run", container.name, check=False).returncode == 0, container.logs)


def test_frames_through_a_container(run: Callable[..., Container], tmp_path: Path) -> None:
    """A gateway beside it and the container, a cable between their namespaces, a ping through the overlay."""
    with Lab("zpi") as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.cable(a, "eth0", ["10.66.43.1/24"], b, plug="eth0", other_addresses=["10.66.43.2/24"])
        gateway = Gateway(a, lab.directory)
        planet, root = private_planet(), moon(gateway.identity, ["10.66.43.1/9993"])
        gateway.use_world(planet, [root])
        gateway.start()
        nwid = gateway.create_network(private=True, routes=[{"target": "10.67.43.0/24"}], v4AssignMode={"zt": False})
        identity = Identity.generate(os.urandom)
        gateway.authorise(nwid, gateway.address, ipAssignments=["10.67.43.1"])
        gateway.authorise(nwid, f"{identity.address:010x}", ipAssignments=["10.67.43.2"])
        gateway.join(nwid)
        home = tmp_path / "home"
        (home / "moons.d").mkdir(parents=True)
        (home / "planet").write_bytes(planet.encode())
        (home / "moons.d" / f"{root.id:016x}.moon").write_bytes(root.encode())
        container = run(
            "--network", f"ns:/run/netns/{b.name}", *TUN, "-v", f"{home}:{HOME}", "-e",
            f"ZEROTIER_IDENTITY_SECRET={identity.text(private=True)}", arguments=[nwid],
        )  # fmt: skip
        container.up()
        eventually(lambda: container.cli("get", nwid, "status") == "OK\n", container.logs)
        eventually(lambda: ping(a, "10.67.43.2", count=1).times, container.logs)
        assert ping(a, "10.67.43.2", count=10, interval=0.05).lost == 0
        assert podman("healthcheck", "run", container.name, check=False).returncode == 0


# Entry points of others

#: What those of the reference's and other images do: the token with a newline behind it, a port file of mode 0600, the
#: service in the background, waiting for its pid file, a moon made of the identity meanwhile, SIGTERM by the pid file.
_OTHERS = f"""#!/bin/sh
home={HOME}
mkdir -p $home/networks.d
echo sesame >$home/authtoken.secret; chmod 0600 $home/authtoken.secret
echo 9993 >$home/zerotier-one.port; chmod 0600 $home/zerotier-one.port
stop() {{ kill $(cat $home/zerotier-one.pid); exit 0; }}
trap stop INT TERM
for i in "$@"; do touch $home/networks.d/$i.conf; done
cd /tmp
zerotier-one >/dev/null 2>&1 &
pid=$!
while [ ! -f $home/identity.secret ]; do sleep 1; done
zerotier-idtool initmoon $home/identity.public >moon.json
sed -i 's/"stableEndpoints": \\[\\]/"stableEndpoints": ["192.0.2.1\\/9993"]/g' moon.json
zerotier-idtool genmoon moon.json >/dev/null
mkdir -p $home/moons.d; mv *.moon $home/moons.d/
kill $pid; wait $pid
nohup /usr/sbin/zerotier-one &
while ! [ -f $home/zerotier-one.pid -a -d /proc/$(cat $home/zerotier-one.pid 2>/dev/null) ]; do sleep 1; done
echo "info: $(zerotier-cli info)"
while true; do sleep 1; done
"""


def test_entry_point_as_others_write_it(run: Callable[..., Container], tmp_path: Path) -> None:
    script = tmp_path / "entrypoint"
    script.write_text(_OTHERS)
    script.chmod(0o755)
    container = run(*TUN, "-v", f"{script}:/theirs:ro", "--entrypoint", "/theirs", arguments=[NWID])
    eventually(lambda: "info: 200 info" in container.logs(), container.logs)
    address = container.up()
    assert container.cli("get", NWID, "status") == "REQUESTING_CONFIGURATION\n"
    assert f'"id": "000000{address}"' in container.cli("listmoons")
    assert container.cli("info").split()[-1] == "ONLINE", "it is its own moon's root"
    assert container.stop() == 0


# Build arguments


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A base URL on the loopback interface below which are wheel/ and deb/, each with a released package."""
    directory = tmp_path_factory.mktemp("releases")
    for words in (
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory / "wheel", ROOT],
        [ROOT / "deploy" / "build-deb.sh", "-o", directory / "deb"],
    ):
        done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("kind", ["wheel", "deb"])
def test_release_from_a_base_url(image: str, releases: str, kind: str) -> None:
    from ztpipe import __version__

    name = f"localhost/ztpipe-test:{secrets.token_hex(4)}"
    arch = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    arguments = {"PACKAGE_BASEURL": f"{releases}{kind}/", "VERSION": __version__, "ARCH": arch}
    done = build(name, *(f"--build-arg={key}={value}" for key, value in arguments.items()))
    try:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        if kind == "wheel":
            assert f"Looking in links: {releases}" in done.stdout, "the package came from there"
        else:
            assert f"from {releases}deb/ztpipe_{__version__}_{arch}.deb" in done.stdout
        container = Container(name, TUN, [NWID])
        try:
            container.up()
            assert container.cli("get", NWID, "portDeviceName").startswith("zt")
            assert (
                container.exec("id", "-u", "zerotier-one").stdout.strip()
                in container.exec("sh", "-c", "grep ^Uid /proc/1/status").stdout
            ), "it is not root"
            assert container.exec("/healthcheck.sh").returncode == 1, "not authorised"
            assert container.stop() == 0
        finally:
            container.remove()
    finally:
        podman("rmi", "--force", name, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ARCH": "s390x"}, "ARCH=s390x, but this image is for"),
        ({"PACKAGE_BASEURL": "http://127.0.0.1:9/"}, "VERSION"),
        ({"VERSION": "99.0"}, "this checkout is version"),
    ],
)
def test_build_arguments_that_cannot_be_met(image: str, arguments: dict[str, str], said: str) -> None:
    name = f"localhost/ztpipe-test:{secrets.token_hex(4)}"
    done = build(name, *(f"--build-arg={key}={value}" for key, value in arguments.items()))
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_release_that_is_not_there(image: str, releases: str) -> None:
    name = f"localhost/ztpipe-test:{secrets.token_hex(4)}"
    done = build(name, f"--build-arg=PACKAGE_BASEURL={releases}wheel/", "--build-arg=VERSION=99.0")
    assert done.returncode != 0
    assert "ztpipe==99.0" in done.stdout + done.stderr
