"""What a broker says when it refuses something, put for the person who can change it: what is missing, and for whom."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiormq.exceptions import AMQPError

from notifier.broker.connection import BrokerError

# Which permission was asked for is said since 3.12 only; before, the operation tells.
_ACCESS: Final = re.compile(
    r"(?:(?P<permission>configure|write|read) )?access to (?P<kind>exchange|queue) '(?P<name>.*?)' "
    r"in vhost '(?P<vhost>.*?)' refused for user '(?P<user>.*?)'"
)
_TOPIC: Final = re.compile(
    r"access to topic '(?P<key>.*?)' in exchange .*?'(?P<name>[^']*)' in vhost '(?P<vhost>.*?)' "
    r"refused for user '(?P<user>.*?)'"
)
_ABSENT: Final = re.compile(r"NOT_FOUND - no (?P<kind>exchange|queue) '(?P<name>.*?)' in vhost '(?P<vhost>.*?)'")
_DIFFERENCE: Final = re.compile(
    r"inequivalent arg '(?P<argument>.*?)' for .*?: received (?P<wanted>.*) but current is (?P<present>.*)"
)
_VALUE: Final = re.compile(r"(?:the value )?'(?P<value>.*?)'(?: of type '(?P<type>.*?)')?$")
_TEXT_TYPES: Final = frozenset({"longstr", "shortstr", "binary"})
_NO_TYPE: Final = re.compile(r"unsupported queue type '(?P<type>.*?)'")
_TYPE_OFF: Final = re.compile(r"of type 'rabbit_(?P<type>.*?)_queue'.*feature flag is disabled")
_NO_REPLICA: Final = "does not have a running replica on the local node"


@dataclass(frozen=True, slots=True)
class Difference:
    """An argument that a queue or an exchange has otherwise than it should; None stands for not at all."""

    argument: str
    wanted: str | int | bool | None
    present: str | int | bool | None

    @classmethod
    def read(cls, error: BaseException) -> "Difference | None":
        """The difference that a declaration failed over; None when it failed over something else."""
        found = _DIFFERENCE.search(str(error))
        return cls(found["argument"], _value(found["wanted"]), _value(found["present"])) if found else None

    def __str__(self) -> str:
        present = "not there" if self.present is None else f"{self.present} there"
        return f"{self.argument} is {present}, and should be {'left out' if self.wanted is None else self.wanted}"


def explain(error: AMQPError, failed: str, implied: Mapping[str, str], *, remedy: str = "") -> BrokerError:
    """Say in one sentence why something failed.

    Args:
        failed: what did not work, as the beginning of the sentence.
        implied: the permission that the operation needs on an `exchange` and on a `queue`, for a broker that says
            only on which of them it is missing.
        remedy: what helps where a thing is not there, as the end of the sentence.
    """
    text = str(BrokerError.because(error))
    if found := _ABSENT.search(text):
        absent = f"the {found['kind']} {found['name']} is not there, in the virtual host {found['vhost']}"
        return BrokerError(f"{absent}: {remedy}" if remedy else f"{failed}: {absent}")
    return BrokerError(f"{failed}: {_permission(text, implied) or _type(text) or text}")


def _value(text: str) -> str | int | bool | None:
    """A value as an error shows it: its type is said only where the two have different ones."""
    found = _VALUE.match(text)
    if found is None:
        return None
    value = found["value"]
    if found["type"] in _TEXT_TYPES:
        return value
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"-?\d+", value) else value


def _permission(text: str, implied: Mapping[str, str]) -> str | None:
    if found := _ACCESS.search(text):
        permission = found["permission"] or implied.get(found["kind"], "such a")
        return (
            f"the user {found['user']} has no {permission} permission on the {found['kind']} {found['name']} "
            f"in the virtual host {found['vhost']}"
        )
    if found := _TOPIC.search(text):
        return (
            f"the topic permissions of the user {found['user']} on the exchange {found['name']} "
            f"in the virtual host {found['vhost']} do not cover the routing key {found['key']!r}"
        )
    return None


def _type(text: str) -> str | None:
    if found := _NO_TYPE.search(text):
        return f"this broker has no queues of the type {found['type']}"
    if found := _TYPE_OFF.search(text):
        flag = f"{found['type']}_queue"
        return f"the broker's feature flag {flag} is off: rabbitmqctl enable_feature_flag {flag}"
    if _NO_REPLICA in text:
        return "the node that we are connected to has no running replica of it: rabbitmq-streams add_replica"
    return None
