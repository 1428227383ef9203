"""How many bytes a notification has on its way: sealed, in the journal, on a socket."""

import time
from typing import Final

from notifier.core.envelope import Position
from notifier.core.identity import Tenant
from notifier.core.notification import seal
from notifier.ingress.schemas import NotificationRequest, read_request
from notifier.journal.record import Stamp, encode
from notifier.transports.frames import Frames
from tests.benchmarks.figure import Figure
from tests.benchmarks.history import notification_to

DENSE: Final = 100


def encodings() -> list[Figure]:
    """Encode what `--only window` sends: to one user, without a key. What the broker adds of its own is not in it."""
    request = read_request(NotificationRequest, notification_to("user-100000"))
    envelope = seal(request.notification(Tenant("default")), accepted_at_ms=int(time.time() * 1000))
    stamp = Stamp("f478fd1f", 100_000)
    alone, dense = len(encode([envelope], stamp)), len(encode([envelope] * DENSE, stamp))
    frame = Frames().notification(Position(stamp.epoch, stamp.seen, 0), envelope)
    return [
        Figure("A notification, sealed", "bytes", len(envelope.sealed)),
        Figure("Its record in the journal, when it is alone there", "bytes", alone),
        Figure(f"Its share of a record of {DENSE}", "bytes", dense / DENSE),
        Figure("Its frame on a WebSocket", "bytes", frame.size),
    ]
