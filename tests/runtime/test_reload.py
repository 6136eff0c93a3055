"""local.conf while a node runs: taken, refused, gone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ztpipe import config as configuration
from ztpipe import localconf
from ztpipe.config import Config
from ztpipe.runtime.reload import LocalConfWatch, report, start_only


class Running:
    """What a node does with its configuration."""

    def __init__(self, home: Path) -> None:
        self.config = configuration.load(home)
        self.taken = 0
        self.watch = LocalConfWatch(lambda: self.config, self.take)

    def take(self, config: Config) -> None:
        self.config = config
        self.taken += 1

    @property
    def low_bandwidth(self) -> bool:
        return self.config.local.settings.low_bandwidth_mode


@pytest.fixture
def running(tmp_path: Path) -> Running:
    write(tmp_path, {"settings": {"lowBandwidthMode": False}})
    return Running(tmp_path)


def write(home: Path, document: object) -> None:
    """Moved into place, as careful editors and configuration management do it."""
    new = home / "local.conf.tmp"
    new.write_text(document if isinstance(document, str) else json.dumps(document))
    os.replace(new, home / "local.conf")


def test_change_is_taken_once(running: Running) -> None:
    running.watch.poll()
    assert running.taken == 0
    write(running.config.home, {"settings": {"lowBandwidthMode": True}})
    running.watch.poll()
    running.watch.poll()
    assert (running.taken, running.low_bandwidth) == (1, True)


def test_old_time_stamp_is_a_change_too(running: Running) -> None:
    """The reference looks at the time only, and misses files that are moved into place."""
    path = running.config.local_conf
    write(running.config.home, {"settings": {"lowBandwidthMode": True}})
    os.utime(path, (1, 1))
    running.watch.poll()
    assert running.low_bandwidth


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        '{"settings": {"lowBandwidthMode": true}',
        '{"settings": {"lowBandwidthMode": true}, "ztpipe": {"tapWorkers": 0}}',
        '{"settings": {"lowBandwidthMode": true}, "ztpipe": {"noSuchKnob": 1}}',
        "\x00",
    ],
)
def test_damaged_file_is_reported_and_kept_out(
    running: Running, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(running.config.home, damaged)
    running.watch.poll()
    running.watch.poll()
    assert (running.taken, running.low_bandwidth) == (0, False)
    out = capsys.readouterr().out
    assert out.count("local.conf not taken") == 1
    assert str(running.config.local_conf) in out
    write(running.config.home, {"settings": {"lowBandwidthMode": True}})
    running.watch.poll()
    assert running.low_bandwidth


def test_unreadable_file_is_reported(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    running.config.local_conf.unlink()
    running.config.local_conf.mkdir()
    running.watch.poll()
    assert running.taken == 0
    assert "Is a directory" in capsys.readouterr().out


def test_removed_file_means_defaults(running: Running) -> None:
    write(running.config.home, {"settings": {"lowBandwidthMode": True}})
    running.watch.poll()
    running.config.local_conf.unlink()
    running.watch.poll()
    assert (running.taken, running.low_bandwidth) == (2, False)


def test_signal_reloads_without_a_change(running: Running) -> None:
    running.watch.reload()
    assert running.taken == 1


def test_start_only_settings_are_named_and_keep_their_value(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    write(running.config.home, {"settings": {"primaryPort": 1234}, "ztpipe": {"tapWorkers": 3}})
    running.watch.poll()
    out = capsys.readouterr().out
    assert "settings.primaryPort" in out
    assert "ztpipe.tapWorkers" in out
    assert (running.config.port, running.config.tap_workers) == (9993, 1)


def test_nothing_is_named_when_nothing_of_it_changed() -> None:
    before = localconf.parse(b'{"settings": {"primaryPort": 5}, "ztpipe": {}}', Path("x"))
    after = localconf.parse(b'{"settings": {"primaryPort": 5, "bind": []}}', Path("x"))
    assert start_only(before, after) == []
    assert start_only(localconf.LocalConf(), localconf.parse(b'{"settings": 5, "ztpipe": []}', Path("x"))) == []


def test_doubtful_values_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    doubtful = localconf.parse(b'{"settings": {"primaryPort": 70000, "nonsense": 1}}', Path("x"))
    report(doubtful)
    said = capsys.readouterr().out
    assert "settings.primaryPort" in said
    assert "settings.nonsense" in said
    report(doubtful, known=doubtful.warnings)
    assert capsys.readouterr().out == ""
