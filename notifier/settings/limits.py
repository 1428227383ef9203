"""How often callers may call."""

from pydantic import Field

from notifier.settings.values import Group, Limit


class Limits(Group):
    """How often callers may call; per process."""

    address: Limit = Field("1000/second", description="HTTP requests of one address, before anything else.")
    send: Limit = Field("500/second", description="`POST /notify` of one caller.")
    batch: Limit = Field("10000/second", description="Items of `POST /notify/batch` of one caller.")
    broadcast: Limit = Field("20/second", description="Notifications to everyone of one caller.")
    ticket: Limit = Field("100/second", description="`POST /ticket` of one caller.")
