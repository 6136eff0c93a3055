"""``ztpipe demo``: two sites joined by two gateways, in network namespaces of their own."""

from __future__ import annotations

import sys

import click


@click.command(name="demo")
@click.option(
    "--layout", type=click.Choice(["pipeline", "fused"]), default="pipeline", show_default=True, help="Process layout."
)
@click.option("--seconds", type=click.FloatRange(1, 60), default=4.0, show_default=True, help="Of each measurement.")
def command(layout: str, seconds: float) -> None:
    """Show two sites joined by two gateways: working, measured, and removed again. Needs root."""
    from ztpipe.lab import demo

    sys.exit(demo.main(layout=layout, seconds=seconds))
