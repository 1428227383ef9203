"""Runs a command as where the extra `otel` is not installed: nothing of it is found."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from notifier.cli import main

EXTRA = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")


class _NotInstalled(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(EXTRA):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


if __name__ == "__main__":
    sys.meta_path.insert(0, _NotInstalled())
    sys.exit(main())
