"""A proof with development tokens, for tests that break something while it runs."""

from typing import Any

from notifier.clients.prove.proof import Proof
from tests.replica import Replica
from tests.tokens import token

SCOPES = ["notify:send", "notify:broadcast"]


def proof(*replicas: Replica, **options: Any) -> Proof:
    """A proof on these replicas; options as for `Proof`."""
    return Proof(
        **{
            "urls": [replica.url for replica in replicas],
            "session_token": lambda user: token(user, topics=["#"]),
            "sender_token": lambda user: token(user, scopes=SCOPES),
            **options,
        }
    )
