"""Whether the settings and the `OTEL_` variables ask for traces, and the traces then.

OpenTelemetry is imported only when they do.
"""

import logging
import os
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from notifier.settings import Settings, SettingsError

if TYPE_CHECKING:
    from notifier.telemetry.traces import Traces

log: Final = logging.getLogger(__name__)
SETTING: Final = "NOTIFIER_TELEMETRY__TRACES"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def are_wanted(setting: str, environment: Mapping[str, str]) -> bool:
    """Tell whether traces are asked for; the standard's own switches win over our setting."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none"
    if setting == "off" or is_disabled:
        return False
    return setting == "on" or bool(exporter) or any(environment.get(name) for name in ENDPOINTS)


def obstacles(environment: Mapping[str, str]) -> list[str]:
    """Say why traces cannot be exported as it is asked for, in a sentence each."""
    found = []
    if not all(_is_installed(module) for module in NEEDED):
        found.append("traces need OpenTelemetry: pip install '.[server,otel]' in the project's folder")
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter not in ("", "otlp"):
        found.append(f"OTEL_TRACES_EXPORTER is otlp or none here, not {exporter!r}")
    protocol = next((value for name in PROTOCOLS if (value := environment.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        found.append(f"OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf here (port 4318), not {protocol!r}")
    return found


def why_not(settings: Settings) -> list[str]:
    """Say why traces that are asked for stay off. Raises SettingsError where the setting is `on`.

    With `auto` it is no reason not to serve: a platform may set these variables for all that runs on it.
    """
    setting = settings.telemetry.traces
    problems = obstacles(os.environ) if are_wanted(setting, os.environ) else []
    if problems and setting == "on":
        raise SettingsError([f"{SETTING}: {problem}" for problem in problems])
    return problems


def build_traces(settings: Settings) -> "Traces | None":
    """The traces, or None while they are off. Raises SettingsError."""
    problems = why_not(settings)
    for problem in problems:
        log.warning("traces are off", extra={"reason": problem})
    if problems or not are_wanted(settings.telemetry.traces, os.environ):
        return None
    from notifier.broker.topology import Names  # noqa: PLC0415 - as below
    from notifier.telemetry.span_export import SpanExport  # noqa: PLC0415 - they cost nothing while they are off
    from notifier.telemetry.traces import Places, Traces  # noqa: PLC0415 - as above

    names = Names(settings.broker.prefix)
    if settings.journal.is_shared:
        places = Places("rabbitmq", journal=names.journal, stream=names.stream, requests=names.requests)
    else:
        places = Places("notifier", journal="journal", stream="journal", requests=names.requests)
    try:
        export = SpanExport(version=version("notifier-push"))
    except ValueError as error:
        raise SettingsError([f"an OTEL_ variable cannot be used: {error}"]) from error
    return Traces(export.provider, export, places)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # A package above it is missing.
