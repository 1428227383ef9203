"""Writes openapi/asyncapi.yaml anew from the code."""

from pathlib import Path
from typing import Final

import yaml  # type: ignore[import-untyped]

from notifier.asyncapi import describe

DOCUMENT: Final = Path(__file__).parent.parent / "openapi/asyncapi.yaml"


def rendered() -> str:
    text: str = yaml.safe_dump(describe(), sort_keys=False, allow_unicode=True, width=120)
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(rendered())
