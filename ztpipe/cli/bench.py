"""``ztpipe bench``: what the data plane costs on this machine."""

from __future__ import annotations

import sys

import click

from ztpipe.cli.errors import guarded


class _Bench(click.Group):
    """`--workers` is another spelling of `workers`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["workers", *args[1:]] if args[:1] == ["--workers"] else args)


@click.group(name="bench", cls=_Bench)
def command() -> None:
    """Measure ciphers, stages and workers on this machine. `bench --workers` is the same as `bench workers`."""


@command.command()
def crypto() -> None:
    """Nanoseconds per packet of every cipher implementation that this machine can run."""
    from ztpipe.cli import bench_crypto

    bench_crypto.main()


@command.command()
@click.option("--rounds", type=click.IntRange(1, 1000), default=30, show_default=True, help="The best of them counts.")
@click.option("--json", "as_json", is_flag=True, help="Print nanoseconds by kind of frame and stage as JSON.")
@click.option("--replay-guard/--no-replay-guard", default=True, show_default=True, help="Look for copies of packets.")
def stages(rounds: int, as_json: bool, replay_guard: bool) -> None:
    """Nanoseconds per frame of every stage, from one TAP to another, without a network. Needs no root."""
    from ztpipe.cli import bench_stages

    bench_stages.main(rounds, as_json=as_json, replay_guard=replay_guard)


@command.command()
@click.option("--seconds", type=click.FloatRange(1, 60), default=3.0, show_default=True, help="Of each measurement.")
@click.option("--streams", type=click.IntRange(1, 64), default=8, show_default=True, help="TCP streams.")
def workers(seconds: float, streams: int) -> None:
    """Share the load of several TCP streams among 1 and 2 workers of each kind, and say what more cores would do.

    Needs root and iperf3.
    """
    from ztpipe.cli import bench_workers

    sys.exit(guarded("ztpipe bench workers", lambda: bench_workers.main(seconds, streams)))


@command.command()
@click.option("--peers", type=click.IntRange(1, 200_000), default=10_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="Of life, once met.")
@click.option("--keepalive", type=click.FloatRange(1, 600), default=15.0, show_default=True, help="Seconds, per peer.")
@click.option("--whois", type=click.FloatRange(0, 10_000), default=100.0, show_default=True, help="WHOIS per second.")
def root(peers: int, seconds: float, keepalive: float, whois: float) -> None:
    """Let a root have thousands of live peers that speak real packets: CPU, memory, what is lost. Needs root."""
    from ztpipe.cli import bench_root

    sys.exit(guarded("ztpipe bench root", lambda: bench_root.main(peers, seconds, keepalive, whois)))
