"""What Prometheus's own checker says of the examples and of what a node exports.

Its package is installed with ZTPIPE_LONG=1 only (scripts/setup.sh); tests/deploy/test_examples.py needs none of it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime.snapshots import snapshot
from ztpipe.runtime.metrics import render

EXAMPLES = Path(__file__).parents[2] / "deploy" / "prometheus"
_LINT = 3  # of promtool: understood, but not as its authors would have named it

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="NOT TESTED: apt-get install prometheus")


def promtool(*words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, timeout=50, check=False)


def test_rules_and_scrape_configuration(tmp_path: Path) -> None:
    """With a token file that exists."""
    done = promtool("check", "rules", EXAMPLES / "alerts.yml")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    token = tmp_path / "token"
    token.write_text("secret")
    text = (EXAMPLES / "prometheus.yml").read_text()
    named = "/etc/prometheus/zerotier-metricstoken.secret"
    assert named in text
    (tmp_path / "prometheus.yml").write_text(text.replace(named, str(token)))
    shutil.copy(EXAMPLES / "alerts.yml", tmp_path)
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_are_understood() -> None:
    """The reference's names break rules of naming; of ours only the latency does, which is in its unit."""
    done = promtool("check", "metrics", text=render(snapshot()))
    assert done.returncode == _LINT, done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith("ztpipe_")]
    assert len(ours) == 1
    assert ours[0].startswith("ztpipe_peer_latency_milliseconds use base unit")
    assert promtool("check", "metrics", text='zt_data{direction="rx"} 1 2 3 4\n').returncode == 1
