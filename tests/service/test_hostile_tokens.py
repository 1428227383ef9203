"""The corpus of hostile tokens at a real door: 401 always, nothing uncaught, nothing of it in the logs (T-53)."""

import json

import httpx

from tests.access.builders import AUDIENCE, ISSUER, SECRET
from tests.access.test_tokens_hostile import CORPUS
from tests.service.client import complaints
from tests.service.conftest import StartReplica

BODY = {"to": {"users": ["alice"]}, "type": "t", "title": "x"}


async def test_each_is_refused_alike_and_leaves_no_trace(start_replica: StartReplica) -> None:
    """T-53; 3.2.18: one sentence for all of them, whatever is wrong."""
    key = {"kid": "key", "secret": SECRET}
    entry = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["HS256"], "keys": [key]}
    replica = start_replica(INSECURE="false", ACCESS__ISSUERS=json.dumps([entry]))
    sent = [hostile for hostile, _ in CORPUS.values() if hostile.isascii() and hostile.isprintable()]
    async with httpx.AsyncClient(base_url=replica.url, verify=False) as backend:
        answers = [
            await backend.post("/notify", json=BODY, headers={"Authorization": f"Bearer {hostile}"}) for hostile in sent
        ]

    # Headers that are too large never reach the door; a million bytes of token are more than that.
    said = {(answer.status_code, answer.json()["detail"]) for answer in answers if answer.status_code != 431}
    assert said == {(401, "The bearer token is not valid.")}
    assert sum(answer.status_code == 431 for answer in answers) == 2
    assert len(sent) > 100
    assert complaints(replica.log_path) == []
    log = replica.log_path.read_text()
    assert not [part for hostile in sent for part in hostile.split(".") if len(part) > len("token") and part in log]
