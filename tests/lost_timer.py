"""The real command with a hub whose timers are lost: once two deliveries follow each other closely, it is stuck.

python -m tests.lost_timer serve: a replica that keeps its sockets, answers its probes, and delivers nothing.
"""

import sys
from functools import partial

from notifier import app, cli
from notifier.core.hub import Hub

if __name__ == "__main__":
    # Hub's own seam, which the service leaves to the event loop.
    app.Hub = partial(Hub, later=lambda *_: None)  # type: ignore[assignment,attr-defined]
    sys.exit(cli.main(sys.argv[1:]))
