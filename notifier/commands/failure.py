"""How a command says that it failed."""

import sys


def fail(*problems: str, code: int = 1) -> int:
    """Print each problem to standard error. Returns the code, for the exit."""
    for problem in problems:
        print(f"notifier: {problem}", file=sys.stderr)
    return code
