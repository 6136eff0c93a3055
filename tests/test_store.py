"""The home directory: names, formats and modes of service §1.4, and what happens to damaged files."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztpipe import files
from ztpipe.runtime.startup import load_peers, stored_moon
from ztpipe.store import Home, HomeError, NetworkSettings
from ztpipe.wire.identity import Identity
from ztpipe.wire.world import World, WorldType

VECTORS = Path(__file__).parent / "vectors"


def secret_identity(index: int = 0) -> Identity:
    nodes = json.loads((VECTORS / "captures" / "b-join-private" / "nodes.json").read_text())["nodes"]
    return Identity.parse(nodes[index]["identity_secret"])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


# Identity


def store_identity(home: Home, identity: Identity, *, tail: str = "") -> None:
    (home.path / "identity.secret").write_text(identity.text(private=True) + tail)


def test_identity_is_generated_once(home: Home) -> None:
    made = home.identity()
    secret, public = home.path / "identity.secret", home.path / "identity.public"
    assert secret.read_text() == made.text(private=True)
    assert len(secret.read_bytes()) == 270
    assert public.read_text() == made.text()
    assert mode(secret) == 0o600
    assert home.identity() == made


@pytest.mark.parametrize("tail", ["", "\n", "\r\n", "  \0"])
def test_identity_with_blanks_behind_it_is_taken(home: Home, tail: str) -> None:
    store_identity(home, secret_identity(), tail=tail)
    assert home.identity() == secret_identity()
    assert not (home.path / "identity.public").exists()  # recorded: it is not created


def test_public_identity_that_differs_is_corrected(home: Home) -> None:
    store_identity(home, secret_identity())
    (home.path / "identity.public").write_text(secret_identity().text() + "\n")
    home.identity()
    assert (home.path / "identity.public").read_text() == secret_identity().text()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: "", "damaged"),
        (lambda text: "rubbish", "damaged"),
        (lambda text: text[:200], "damaged"),
        (lambda text: "\N{EURO SIGN}" + text, "damaged"),
        (lambda text: text[:141], "no secret key"),
        (lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"), "does not belong to its public key"),
        (lambda text: text[:142] + ("00" if text[142:144] != "00" else "08") + text[144:], "does not belong"),
        (lambda text: ("0" if text[0] != "0" else "1") + text[1:], "address"),
    ],
)
def test_damaged_identity_is_an_error_and_stays(home: Home, damage: object, reason: str) -> None:
    assert callable(damage)
    damaged = damage(secret_identity().text(private=True)).encode()
    (home.path / "identity.secret").write_bytes(damaged)
    with pytest.raises(HomeError, match=reason) as caught:
        home.identity()
    beginning = "invalid identity loaded from disk. Please remove identity.public and identity.secret from"
    assert str(caught.value).startswith(f"{beginning} {home.path} and try again")
    assert (home.path / "identity.secret").read_bytes() == damaged


def test_secret_of_another_identity_is_refused(home: Home) -> None:
    mixed = secret_identity(0).text() + ":" + secret_identity(1).text(private=True).split(":")[3]
    (home.path / "identity.secret").write_text(mixed)
    with pytest.raises(HomeError, match="does not belong to its public key"):
        home.identity()


def test_identity_behind_a_link_is_corrected_through_it(home: Home, tmp_path: Path) -> None:
    """Home Assistant keeps these files elsewhere and links them."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("old")
    (home.path / "identity.public").symlink_to(elsewhere)
    store_identity(home, secret_identity())
    home.identity()
    assert (home.path / "identity.public").is_symlink()
    assert elsewhere.read_text() == secret_identity().text()


def test_identity_after_a_collision(home: Home) -> None:
    store_identity(home, secret_identity())
    home.retire_identity()
    assert (home.path / "identity.secret.saved_after_collision").read_text() == secret_identity().text(private=True)
    assert home.identity() != secret_identity()


# Tokens and modes


def test_tokens(home: Home) -> None:
    token, metrics = home.auth_token(), home.metrics_token()
    assert token != metrics
    for name, made in (("authtoken.secret", token), ("metricstoken.secret", metrics)):
        assert (home.path / name).read_text() == made  # no newline: clients put the bytes into a header
        assert len(made) == 24
        assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    assert home.auth_token() == token


def test_token_is_stripped_and_an_empty_one_replaced(home: Home) -> None:
    (home.path / "authtoken.secret").write_bytes(b" \tmytoken\r\n\0")
    assert home.auth_token() == "mytoken"
    (home.path / "authtoken.secret").write_bytes(b"\n")
    assert len(home.auth_token()) == 24


def test_secrets_are_closed_under_any_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "home"
    path.mkdir()
    path.chmod(0o755)
    home = Home.open(path)
    home.auth_token(), home.metrics_token()
    files.write(path / "identity.secret", b"x", mode=files.SECRET)
    for name in ("authtoken.secret", "metricstoken.secret", "identity.secret"):
        assert mode(path / name) == 0o600
    assert mode(path / "controller.d") == 0o700


def test_wider_mode_of_the_token_is_kept_but_not_of_the_identity(tmp_path: Path) -> None:
    """ztncui's package lets its group read the token; a restart must not undo it."""
    for name in ("authtoken.secret", "identity.secret"):
        (tmp_path / name).write_text("t")
        (tmp_path / name).chmod(0o640)
    home = Home.open(tmp_path)
    home.auth_token()
    assert mode(tmp_path / "authtoken.secret") == 0o640
    assert mode(tmp_path / "identity.secret") == 0o600


# Opening


def test_open_makes_all_missing_directories(tmp_path: Path) -> None:
    Home.open(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "controller.d").is_dir()
    Home.open(tmp_path / "a" / "b")


def test_open_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="a file is in the way"):
        Home.open(tmp_path / "file")
    with pytest.raises(HomeError, match="a file is in the way"):
        Home.open(tmp_path / "file" / "below")
    with pytest.raises(HomeError, match="could not create"):
        Home.open(Path("/proc/nope/x"))
    (tmp_path / "controller.db").write_text("")
    with pytest.raises(HomeError, match=r"^FATAL: an old controller.db exists in"):
        Home.open(tmp_path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_open_refuses_a_directory_that_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)  # root may write everywhere
    with pytest.raises(HomeError, match=f"home directory {tmp_path} is not writable"):
        Home.open(tmp_path)


def test_open_removes_the_old_identity_cache(tmp_path: Path) -> None:
    (tmp_path / "iddb.d").mkdir()
    (tmp_path / "iddb.d" / "x").write_text("")
    Home.open(tmp_path)
    assert not (tmp_path / "iddb.d").exists()


# State objects


def test_names_of_state_objects(home: Home) -> None:
    home.save("planet", 0, b"p")
    home.save("moon", 0x142B028C0F, b"m")
    home.save("network", 0x142B028C0F90DC4A, b"n")
    home.save("network", 1, b"")
    home.save("peer", 0xFD90EDBA50, b"q")
    found = {str(path.relative_to(home.path)): path.read_bytes() for path in home.path.rglob("*") if path.is_file()}
    assert found == {
        "planet": b"p",
        "moons.d/000000142b028c0f.moon": b"m",
        "networks.d/142b028c0f90dc4a.conf": b"n",
        "networks.d/0000000000000001.conf": b"\n",
        "peers.d/fd90edba50.peer": b"q",
    }
    assert home.planet() == b"p"
    assert home.moons() == {0x142B028C0F: b"m"}
    assert home.networks() == {1: b"", 0x142B028C0F90DC4A: b"n"}
    assert home.peers() == {0xFD90EDBA50: b"q"}


def test_deletion(home: Home) -> None:
    home.save("network", 1, b"n")
    home.save_network_settings(1, NetworkSettings(allow_dns=True))
    home.save("network", 1, None)
    home.save("peer", 7, None)
    assert list((home.path / "networks.d").iterdir()) == []
    assert home.network_settings(1) == NetworkSettings()


def test_names_that_do_not_count(home: Home) -> None:
    (home.path / "networks.d").mkdir()
    for name in ("142b028c0f90dc4.conf", "142b028c0f90dc4a.local.conf", "zzzzzzzzzzzzzzzz.conf", ".x.conf", "a"):
        (home.path / "networks.d" / name).write_text("")
    (home.path / "networks.d" / "142B028C0F90DC4A.conf").touch()  # made by a script: enough to join
    assert home.networks() == {0x142B028C0F90DC4A: b""}


def test_peers_expire_after_thirty_days(home: Home) -> None:
    home.save_peer(1, b"old")
    home.save_peer(2, b"new")
    os.utime(home.path / "peers.d" / "0000000001.peer", (0, 1_000_000))
    os.utime(home.path / "peers.d" / "0000000002.peer", (0, 1_000_001))
    assert home.expire_peers(1_000_000 + 30 * 86400 + 0.5) == 1
    assert home.peers() == {2: b"new"}


def test_old_peers_are_not_loaded(home: Home) -> None:
    for address in (1, 2):
        home.save_peer(address, b"x")
    os.utime(home.path / "peers.d" / "0000000001.peer", (0, 1_000_000))
    assert load_peers(home) == {2: b"x"}
    assert home.peers() == {2: b"x"}


def test_a_moon_that_was_put_there_by_hand_is_found(home: Home) -> None:
    assert stored_moon(home, 7) is None
    moon = World(WorldType.MOON, 7, 9, bytes(64), bytes(96), ())
    home.save_moon(7, moon.encode())
    assert stored_moon(home, 7) == moon
    home.save_moon(7, b"damaged")
    assert stored_moon(home, 7) is None


def test_device_map(home: Home) -> None:
    assert home.device_map() == {}
    (home.path / "devicemap").write_text("142b028c0f90dc4a=zt0\n# note\nbad=zt1\n0000000000000001=\n")
    assert home.device_map() == {0x142B028C0F90DC4A: "zt0"}


def test_trusted_paths(home: Home) -> None:
    assert home.trusted_paths() == {}
    lines = "3d=10.0.0.0/8\r\n a1b2 = fd00::/8 \n0=10.1.0.0/16\nzz=10.2.0.0/16\n7=10.3.0.1\n# note\n"
    (home.path / "trustedpaths").write_text(lines)
    assert home.trusted_paths() == {"10.0.0.0/8": 0x3D, "fd00::/8": 0xA1B2}


# Local settings of networks (service §1.6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", NetworkSettings()),
        ("allowManaged=1\nallowGlobal=0\nallowDefault=0\nallowDNS=0\n", NetworkSettings()),
        ("allowManaged=0\nallowGlobal=true\nallowDefault=T\nallowDNS=1\n", NetworkSettings(False, True, True, True)),
        ("allowManaged=false\nallowGlobal=yes\nx\n", NetworkSettings(allow_managed=False)),
        (
            "allowManaged=10.55.0.0/24,10.66.0.0/16\n",
            NetworkSettings(managed_only=("10.55.0.0/24", "10.66.0.0/16")),
        ),
    ],
)
def test_reading_network_settings(text: str, expected: NetworkSettings) -> None:
    assert NetworkSettings.parse(text) == expected


def test_file_of_network_settings(home: Home) -> None:
    home.save_network_settings(1, NetworkSettings())
    written = (home.path / "networks.d" / "0000000000000001.local.conf").read_text()
    assert written == "allowManaged=1\nallowGlobal=0\nallowDefault=0\nallowDNS=0\n"


PREFIXES = st.sampled_from([(), ("10.0.0.0/8",), ("fd00::/8", "10.1.0.0/16")])


@given(st.builds(NetworkSettings, *[st.booleans()] * 4), PREFIXES)
def test_network_settings_survive_the_file(settings: NetworkSettings, only: tuple[str, ...]) -> None:
    kept = only if settings.allow_managed else ()
    full = NetworkSettings(
        settings.allow_managed, settings.allow_global, settings.allow_default, settings.allow_dns, kept
    )
    assert NetworkSettings.parse(full.text()) == full


# Service files


def test_service_files(home: Home) -> None:
    home.write_port(9993)
    home.write_pid(17)
    home.write_local_conf({"settings": {"x": 1, "portMappingEnabled": False}})
    home.write_metrics("a 1\n")
    assert (home.path / "zerotier-one.port").read_text() == "9993"
    assert (home.path / "zerotier-one.pid").read_text() == "17"
    home.remove_pid()
    assert not (home.path / "zerotier-one.pid").exists()
    recorded = (VECTORS / "service-api" / "post-config-settings.txt").read_text()
    assert (home.path / "local.conf").read_text() == recorded.split("### local.conf afterwards\n")[1]


# Atomic writes


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert files.write(path, b"a")
    before = path.stat()
    assert not files.write(path, b"a")
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_existing_mode_is_kept_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a")
    path.chmod(0o640)
    files.write(path, b"b", mode=files.SECRET)
    assert mode(path) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space") as failure:
        files.write(path, b"new")
    assert failure.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_where_no_rename_is_possible_it_writes_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single file mounted into a container cannot be replaced."""
    path = tmp_path / "f"
    path.write_bytes(b"something long")

    def busy(_source: object, _target: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    files.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    contents = [bytes([letter]) * 100_000 for letter in b"ab"]
    path.write_bytes(contents[0])
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for round_number in range(40):
        files.write(path, contents[round_number % 2])
    done.set()
    reader.join()
    assert seen <= set(contents)
