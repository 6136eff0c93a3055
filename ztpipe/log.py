"""Logging of all processes: structlog, one line per event on stderr, text for people or JSON for programs."""

from __future__ import annotations

import logging
import sys

from ztpipe import lean

with lean.absent("rich"):  # for tracebacks in colour it would take 3 MB in every node
    import structlog

__all__ = ["configure", "get", "get_logger"]

get_logger = structlog.get_logger


def configure(level: str, form: str, **bound: object) -> None:
    """Set up logging of this process; `bound` fields (such as ``worker="crypto-0"``) appear in every line.

    `level` and `form` are `Config.log_level` and `Config.log_format`.
    "auto" is text where stderr is a terminal, JSON elsewhere.
    """
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)
    rendering: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=True)]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get(**bound: object) -> structlog.typing.FilteringBoundLogger:
    """A logger; call as ``log.info("joined", nwid="...")``."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**bound)
    return logger
