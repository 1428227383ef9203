"""Logs: one JSON object per line on standard output, from the standard library's loggers through structlog."""

import logging
import logging.config
import sys
from typing import Any, Literal

import structlog


def configure_logging(level: str, log_format: Literal["json", "text"]) -> None:
    """Send every logger of the process to standard output in one format."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"no_handshake_line": {"()": HandshakeLineFilter}},
            "formatters": {
                "line": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                }
            },
            "handlers": {
                "stdout": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stdout",
                    "formatter": "line",
                    "filters": ["no_handshake_line"],
                }
            },
            "root": {"handlers": ["stdout"], "level": level.upper()},
            # We write one line per request and per session ourselves, without query strings. Never below: at debug the
            # WebSocket library writes every header and frame, with tokens and payloads.
            "loggers": {
                "uvicorn": {"level": "ERROR" if level == "error" else "WARNING"},
                # We write one line per lost connection ourselves, with its reason and without tracebacks or passwords.
                "aio_pika": {"level": "CRITICAL"},
                "aiormq": {"level": "CRITICAL"},
            },
        }
    )


class HandshakeLineFilter(logging.Filter):
    """Drops uvicorn's line about each WebSocket handshake: it holds the query string, and so may hold a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        return '"WebSocket %s"' not in str(record.msg)
