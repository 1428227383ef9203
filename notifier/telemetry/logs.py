"""Logs: one line per event on standard output, from the standard library's loggers: JSON, or text through structlog."""

import json
import logging
import logging.config
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

_STANDARD_FIELDS: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_to_json: Final = json.JSONEncoder(default=repr).encode


def configure_logging(level: str, log_format: Literal["json", "text"]) -> None:
    """Send every logger of the process to standard output in one format."""
    _leave_out_what_no_line_says()
    formatter: Any = JsonFormatter if log_format == "json" else _text_formatter
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"no_handshake_line": {"()": HandshakeLineFilter}},
            "formatters": {"line": {"()": formatter}},
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
                # It writes a line for each export, whose URL may hold a key.
                "urllib3": {"level": "WARNING"},
                # It writes a line for each request; the keys of issuers have lines of their own.
                "httpx": {"level": "WARNING"},
                "httpcore": {"level": "WARNING"},
            },
        }
    )


class JsonFormatter(logging.Formatter):
    """Writes a record and its extra fields as one JSON object.

    It stands in for structlog's formatter, which copies each record and takes it through a chain of functions: with a
    line for each request, that was a tenth of what a request costs (`DECISIONS.md`, 27).
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        fields |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD_FIELDS}
        fields["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _to_json(fields)


def _text_formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty()),
        ],
    )


def _leave_out_what_no_line_says() -> None:
    """Do not look up the caller, thread and process of each record ("Optimization" in Python's logging HOWTO)."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class HandshakeLineFilter(logging.Filter):
    """Drops uvicorn's line about each WebSocket handshake: it holds the query string, and so may hold a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        return '"WebSocket %s"' not in str(record.msg)
