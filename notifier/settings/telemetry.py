"""What can be seen."""

from typing import Literal

from pydantic import Field

from notifier.settings.values import Group


class Telemetry(Group):
    """What can be seen."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object per line, or text for people.")
    traces: Literal["auto", "on", "off"] = Field(
        "auto", description="OpenTelemetry, by the `OTEL_` variables; `auto`: when they name an OTLP endpoint."
    )
