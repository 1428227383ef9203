"""Why a request is not known to be in the queue: under a code, and in words for the person who can change it."""

from typing import Final

from aio_pika.exceptions import (
    AuthenticationError,
    ChannelNotFoundEntity,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from notifier.clients.tls import told

NEVER_RAN: Final = "a replica with this prefix, or `notifier check --connect`, has to run once"


class Unpublished(Exception):
    """It is not known to be in the queue; with the same key, publishing it again is harmless.

    Args:
        reason: `returned`: no queue is bound; `nack`: the queue takes no more; or the name of what happened instead.
        code: `login_refused`, `no_virtual_host`, `access_refused`, `no_exchange` and `unroutable`: it is not there, and
            would be refused again; `queue_full` and `no_confirm` may pass.
        detail: the broker's words, with what they are about.
    """

    def __init__(self, reason: str, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.reason = reason
        self.code = code
        self.detail = detail


def unopened(error: BaseException, url: URL) -> Unpublished:
    """Why there is no connection to the broker at `url`, whose password is not shown."""
    reason, place = type(error).__name__, str(url.with_password(None).with_query(None))
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            return Unpublished(reason, "login_refused", f"{place}: {error}")
        case InvalidFrameError() if "Connection.OpenOk" in str(error):
            # aiormq takes the refusal for a frame out of place, and drops what the broker said in it.
            vhost, user = url.path[1:].replace("%2F", "/") or "/", url.user or "guest"
            detail = f"{place}: there is no virtual host {vhost}, or the user {user} may not enter it"
            return Unpublished(reason, "no_virtual_host", detail)
        case TimeoutError():
            return Unpublished(reason, "no_confirm", f"{place} did not answer in time")
    return Unpublished(reason, "no_confirm", f"{place} cannot be reached: {told(error)}")


def unconfirmed(error: BaseException, exchange: str, routing_key: str) -> Unpublished:
    """Why the broker did not confirm what was published."""
    reason, said = type(error).__name__, str(error)
    match error:
        case PublishError():
            return Unpublished("returned", "unroutable", f"no queue is bound to the exchange {exchange}: {NEVER_RAN}")
        case DeliveryError():
            return Unpublished("nack", "queue_full", f"the queue behind the exchange {exchange} takes no more")
        case ChannelNotFoundEntity():
            return Unpublished(reason, "no_exchange", f"{said}: {NEVER_RAN}")
        # One channel is for all: it ends for them too when only the topic of another is refused.
        case ChannelAccessRefused() if "topic '" not in said or f"topic '{routing_key}'" in said:
            return Unpublished(reason, "access_refused", said)
        case TimeoutError():
            detail = f"no confirm from {exchange} in time: an alarm over the broker's memory or disk, or the network"
            return Unpublished(reason, "no_confirm", detail)
    return Unpublished(reason, "no_confirm", f"the connection was lost: {told(error)}")
