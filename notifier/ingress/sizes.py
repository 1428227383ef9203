"""How much one request may bring, at every door."""

from typing import Final

REQUEST_LIMIT_BYTES: Final = 64 * 1024
BATCH_LIMIT_BYTES: Final = 4 * 1024 * 1024
BATCH_LIMIT_ITEMS: Final = 1_000
