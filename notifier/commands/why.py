"""`notifier why`: did somebody get a notification? Asks every replica, and says what they know."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from notifier.commands.conclusions import Conclusion, accepted_ms, conclude, counted, said_of
from notifier.commands.failure import fail
from notifier.commands.target import add_ca_file, given_tls

if TYPE_CHECKING:
    from notifier.clients.operations import Reply

DEFAULT_OPERATIONS: Final = "http://127.0.0.1:9000"
CODES: Final = "exit code: 0 written to a session, 1 not written, 2 wrong arguments, 3 not known"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    why = commands.add_parser("why", help="say whether a notification reached a user, and why not", epilog=CODES)
    why.set_defaults(command=_why)
    why.add_argument("id", type=_id, help="the id of the 202")
    why.add_argument("--user", required=True)
    why.add_argument("--tenant", default="default", help="default: default")
    why.add_argument(
        "--operations",
        action="append",
        metavar="URL",
        help=f"an operations port; may be repeated; a name stands for all its addresses; default {DEFAULT_OPERATIONS}",
    )
    add_ca_file(why)
    why.add_argument("--json", action="store_true", dest="as_json", help="print all of it as one JSON object")


def _why(options: argparse.Namespace) -> int:
    from notifier.clients.operations import addresses, ask_all

    try:
        named = options.operations or [DEFAULT_OPERATIONS]
        replicas = list(dict.fromkeys(address for url in named for address in addresses(url)))
        tls = given_tls(options)
    except ValueError as error:
        return fail(str(error), code=2)
    params = {"user": options.user, "tenant": options.tenant}
    replies = asyncio.run(ask_all(replicas, f"/notifications/{options.id}", params, tls=tls))
    conclusion = conclude(replies, options.id, options.user)
    print(_as_json(options, replies, conclusion) if options.as_json else "\n".join(_lines(replies, conclusion)))
    return conclusion.exit_code


def _as_json(options: argparse.Namespace, replies: "list[Reply]", conclusion: Conclusion) -> str:
    said = {
        "id": options.id,
        "user": options.user,
        "tenant": options.tenant,
        "verdict": conclusion.verdict,
        "summary": conclusion.sentence,
        "replicas": [{"address": reply.address, "answer": reply.answer, "trouble": reply.trouble} for reply in replies],
    }
    return json.dumps(said, ensure_ascii=False, indent=2)


def _lines(replies: "list[Reply]", conclusion: Conclusion) -> Iterator[str]:
    one = next((reply.answer for reply in replies if reply.answer and reply.answer["in_window"]), None)
    if one is not None:
        yield f"in the journal at {one['position']}, accepted {one['accepted_at']}, expires {one['expires_at']}"
        yield f"for {_audience(one)}"
    for reply in replies:
        yield from _replica_lines(reply)
    yield f"{conclusion.sentence[0].upper()}{conclusion.sentence[1:]}."


def _audience(answer: Mapping[str, Any]) -> str:
    audience, user = answer["audience"], answer["user"]
    parts = ["everyone"] if audience["everyone"] else []
    if audience["users"]:
        parts.append(counted(audience["users"], "named user"))
    parts += [f"topic {topic}" for topic in audience["topics"]] + [f"role {role}" for role in audience["roles"]]
    named = "excluded" if answer["excluded"] else "meant by name" if answer["named"] else "not meant by name"
    newer = f"; superseded by {answer['superseded_by']}" if answer["superseded_by"] else ""
    expired = "; expired" if answer["expired"] else ""
    return f"{', '.join(parts)}; {user} is {named}{newer}{expired}"


def _replica_lines(reply: "Reply") -> Iterator[str]:
    answer = reply.answer
    if answer is None:
        yield f"{reply.address}: {reply.trouble}"
        return
    name = f"{reply.address} ({answer['replica']})"
    if answer["in_window"]:
        read = f", read by {answer['read_by']}" if answer["read_by"] else ", read just now"
        yield f"{name}: in the window{read}"
    else:
        yield f"{name}: not in the window, which goes back to {answer['available_since']}"
    sessions = answer["sessions"]
    if not any(session["state"] != "closed" for session in sessions):
        yield f"  {answer['user']} is not connected here"
    gone = 0
    for session in sessions:
        if session.get("outcome", "left") == "left" and session["state"] == "closed":
            gone += 1
            if gone > 1:
                continue  # The newest of those that were over before tells when the user was here last.
        yield f"  session {session['session'][:8]}, {_span(session)}: {said_of(session)}"
    if gone > 1:
        yield f"  and {gone - 1} older that left before"


def _span(session: Mapping[str, Any]) -> str:
    if session["state"] != "closed":
        return f"opened {session['opened_at']}, {session['state']}"
    how = "" if session["code"] is None else f" ({session['code']} {session['reason']})"
    return f"opened {session['opened_at']}, closed {session['closed_at']}{how}"


def _id(text: str) -> str:
    try:
        accepted_ms(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no id of a notification, which is a UUID of version 7") from None
    return text
