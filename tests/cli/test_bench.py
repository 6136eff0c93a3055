"""`ztpipe bench`: every stage is measured on frames that arrive, and the model divides cores as it says."""

from __future__ import annotations

import json
from itertools import product

import pytest
from click.testing import CliRunner

from ztpipe.cli import bench_workers
from ztpipe.cli.bench import command
from ztpipe.cli.bench_stages import KINDS, STAGES
from ztpipe.cli.bench_workers import ROLES, Run, best_plan, limit


def test_stages() -> None:
    done = CliRunner().invoke(command, ["stages", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found.pop("ring")["slot"] > 0
    assert list(found) == [kind.title for kind in KINDS]
    for row in found.values():
        assert list(row) == list(STAGES)
        assert all(spent > 0 for spent in row.values())


def test_a_super_frame_costs_more_to_seal_than_a_small_frame() -> None:
    done = CliRunner().invoke(command, ["stages", "--rounds", "2", "--json"])
    found = json.loads(done.stdout)
    assert found[KINDS[0].title]["seal"] > 5 * found[KINDS[-1].title]["seal"]


def test_workers_may_be_spelt_as_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, int]] = []
    monkeypatch.setattr(bench_workers, "main", lambda *wish: asked.append(wish) or 0)
    for word in ("workers", "--workers"):
        for options in ([], ["--seconds", "2", "--streams", "4"]):
            done = CliRunner().invoke(command, [word, *options])
            assert done.exit_code == 0, done.output
    assert asked == [(3.0, 8), (2.0, 4)] * 2
    assert CliRunner().invoke(command, ["--workers", "stages"]).exit_code == 2
    assert CliRunner().invoke(command, []).exit_code == 2


@pytest.mark.parametrize("cores", [3, 4, 8, 16])
def test_no_division_of_cores_is_better(cores: int) -> None:
    cost = {"tap": 0.3, "crypto": 0.5, "peer": 0.2}
    plan = best_plan(cost, cores)
    assert sum(plan.workers) <= cores and min(plan.workers) >= 1
    for counts in product(range(1, cores), repeat=3):
        if sum(counts) <= cores:
            assert plan.gbit >= 8 * min(n / cost[role] for n, role in zip(counts, ROLES, strict=True)) - 1e-9


def test_a_flow_is_as_fast_as_its_slowest_worker() -> None:
    run = Run(2, 1.0, ({"zt tap-0": 0.1, "zt tap-1": 0.1, "zt crypto-0": 0.5, "zt peer-0": 0.25, "python": 9.0}, {}))
    cost = run.by_role(0)
    assert cost == pytest.approx({"tap": 0.2, "crypto": 0.5, "peer": 0.25})
    assert limit(cost, ROLES) == pytest.approx(16)
    assert limit(cost, ["peer"]) == pytest.approx(32)
