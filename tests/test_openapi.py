"""The OpenAPI document: it is the one of the code, it names all that the code can answer, and the service keeps it."""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig

from notifier.app import create_app
from notifier.core import errors
from notifier.ingress import problems
from notifier.settings import Settings
from tests.replica import Replica
from tests.tokens import bearer

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final[dict[str, Any]] = json.loads((ROOT / "openapi/openapi.json").read_text())
PROBLEM: Final = "application/problem+json"
SCOPES: Final = ["notify:send", "notify:broadcast", "notify:ticket", "notify:revoke"]
# What a schema cannot say: Unicode categories, the depth of free JSON, the size of the whole.
BEYOND_A_SCHEMA: Final = {
    *("not_printable", "bad_pattern", "bad_link", "too_long", "too_deep", "lone_surrogate", "too_far_ahead")
}


def operations() -> Iterator[dict[str, Any]]:
    for path in DOCUMENT["paths"].values():
        yield from path.values()


def error_classes() -> set[str]:
    kinds = {errors.NotifierError}
    while more := {child for kind in kinds for child in kind.__subclasses__()} - kinds:
        kinds |= more
    return {kind.__name__ for kind in kinds}


def raised_codes() -> dict[str, str]:
    """Each code that the source gives to an error of ours, with the name of what is called with it.

    The routes of the demo page are left out: they are no part of the interface. So is the queue door, which is no HTTP,
    and the Python client, whose errors are its own.
    """
    classes, found = error_classes(), {}
    for file in {*(ROOT / "notifier").rglob("*.py")} - {
        *(ROOT / "notifier/clients").rglob("*.py"),
        ROOT / "notifier/demo.py",
        ROOT / "notifier/ingress/requests.py",
    }:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given = node.args[:1] if node.func.id in classes else []
                for value in [*given, *(each.value for each in node.keywords if each.arg == "code")]:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found[value.value] = node.func.id
    return found


def documented_codes() -> dict[str, set[str]]:
    """Each code that has an example, with the statuses it stands under."""
    answers = [answers for operation in operations() for answers in operation["responses"].items()]
    answers += DOCUMENT["components"]["responses"].items()
    found: dict[str, set[str]] = {}
    for status, answer in answers:
        for code in answer.get("content", {}).get(PROBLEM, {}).get("examples", {}):
            found.setdefault(code, set()).add(status)
    return found


def test_the_file_is_what_the_code_describes() -> None:
    """`make openapi` writes it anew."""
    assert create_app(Settings(insecure=True)).openapi() == DOCUMENT


def test_every_code_of_the_source_is_documented_under_its_status() -> None:
    raised, documented = raised_codes(), documented_codes()
    statuses = {kind.__name__: str(status) for kind, status in problems._STATUS_OF_ERROR}
    # What judges tokens raises through a function of its own.
    expected = {code: statuses.get(kind, "401") for code, kind in raised.items()}

    assert len(expected) > 15  # The source was read.
    assert {code for code, status in expected.items() if status not in documented.get(code, ())} == set()


def test_every_documented_code_is_one_of_the_source() -> None:
    by_status = set(problems._CODE_OF_STATUS.values()) | {"internal_error"}
    # They come from classes and functions.
    defaults = {"invalid_notification", "invalid_revocation", "token_invalid", "keys_unavailable"}

    assert set(documented_codes()) - set(raised_codes()) - by_status == defaults


def test_the_problem_lists_exactly_the_documented_codes() -> None:
    listed = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]

    assert set(listed) == set(documented_codes())


def test_every_problem_shows_the_headers_that_come_with_its_status() -> None:
    needed = {"401": "WWW-Authenticate", "403": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
    answers = [each for operation in operations() for each in operation["responses"].items()]

    assert [status for status, answer in answers if status in needed and needed[status] not in answer["headers"]] == []
    assert "Allow" in DOCUMENT["components"]["responses"]["405"]["headers"]


def test_every_body_has_an_example() -> None:
    media = [
        content
        for operation in operations()
        for part in [*operation["responses"].values(), operation.get("requestBody", {})]
        for content in part.get("content", {}).values()
    ]
    schemas = DOCUMENT["components"]["schemas"]

    def has_example(content: dict[str, Any]) -> bool:
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        properties = schemas.get(name, {}).get("properties", {})
        inner = [schemas["BatchResult"]["properties"]] if name == "BatchResults" else [properties]
        return bool({"example", "examples"} & content.keys()) or any(
            "examples" in p for ps in inner for p in ps.values()
        )

    assert len(media) > 10
    assert all(has_example(content) for content in media)


def test_fastapis_own_validation_errors_are_not_in_it() -> None:
    text = json.dumps(DOCUMENT)

    assert "ValidationError" not in text


# -- the service keeps it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica whose limits hide nothing."""
    limits = {
        f"NOTIFIER_LIMITS__{name}": "1000000/second"
        for name in ("ADDRESS", "SEND", "BATCH", "BROADCAST", "TICKET", "REVOKE")
    }
    replica = Replica(tmp_path_factory.mktemp("openapi") / "replica.log", limits)
    yield replica
    replica.stop()


def described(path: str) -> Any:
    """The operation, with what counts as accepted and as rejected for it."""
    # A batch answers for each item, so that a bad item is a 207.
    accepted, rejected = (
        ["2xx", "403", "404", "422"],
        ["400", "401", "403", "413", "415", "422", *(["207"] * path.endswith("batch"))],
    )
    checks = {
        "positive_data_acceptance": {"expected-statuses": [*accepted, "426"]},
        "negative_data_rejection": {"expected-statuses": rejected},
    }
    config = SchemathesisConfig.from_dict({"checks": checks})
    schema = schemathesis.openapi.from_dict(DOCUMENT, config=config)
    return schema[path]["GET" if path == "/ws" else "POST"]


@pytest.mark.parametrize(
    ("path", "mode", "examples"),
    [
        ("/notify", GenerationMode.POSITIVE, 40),
        ("/notify", GenerationMode.NEGATIVE, 40),
        ("/notify/batch", GenerationMode.POSITIVE, 10),
        ("/notify/batch", GenerationMode.NEGATIVE, 10),
        ("/ticket", GenerationMode.POSITIVE, 10),
        ("/ticket", GenerationMode.NEGATIVE, 10),
        ("/revocations", GenerationMode.POSITIVE, 8),
        ("/revocations", GenerationMode.NEGATIVE, 20),
        ("/ws", GenerationMode.POSITIVE, 1),
    ],
    ids=lambda value: getattr(value, "value", str(value)),
)
def test_the_service_answers_as_it_is_described(
    open_replica: Replica, path: str, mode: GenerationMode, examples: int
) -> None:
    statuses: Counter[int] = Counter()

    @settings(
        derandomize=True,
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described(path).as_strategy(generation_mode=mode))
    def run(case: Case[Any]) -> None:
        if "Idempotency-Key" in case.headers and mode is GenerationMode.POSITIVE:
            # Else the examples, which are fond of the key "0", would mostly be refused as its reuse.
            case.headers["Idempotency-Key"] += f" {sum(statuses.values())}"
        if "cloudevents" in (case.media_type or "") and mode is GenerationMode.POSITIVE:
            # An event has a key of its own; OpenAPI cannot say that it excludes the other.
            case.headers.pop("Idempotency-Key", None)
            events: list[Any] = case.body if isinstance(case.body, list) else [case.body]
            for number, event in enumerate(events):
                event["id"] = f"{sum(statuses.values())} {number}"
        with requests.Session() as session:
            answer = case.call(base_url=open_replica.url, headers=bearer(scopes=SCOPES), session=session)
        statuses[answer.status_code] += 1
        case.validate_response(answer)
        assert answer.status_code < 500
        if mode is GenerationMode.POSITIVE and answer.status_code == 422:
            assert {error["code"] for error in answer.json().get("errors", [])} <= BEYOND_A_SCHEMA, (
                case.body,
                answer.json(),
            )

    run()

    if (path, mode) == ("/notify", GenerationMode.POSITIVE):
        assert statuses[202] > examples / 5, statuses
    if (path, mode) == ("/notify", GenerationMode.NEGATIVE):
        assert statuses[422] > 0, statuses
