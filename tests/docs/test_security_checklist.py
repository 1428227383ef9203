"""docs/security-checklist.md: each line has its tests, they exist, and each names the line that it proves."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = [*(f"3.1.{n}" for n in range(1, 14)), *(f"3.2.{n}" for n in range(14, 21))]
LINES += [*(f"3.3.{n}" for n in range(21, 28)), *(f"3.4.{n}" for n in range(28, 36)), *(f"2.{n}" for n in range(1, 7))]
LEAST = {"uvicorn": (0, 52, 1), "starlette": (1, 3, 1), "python-jose": (3, 5, 0)}


def rows() -> dict[str, list[str]]:
    """The tests of each line, as `file::name`."""
    page = (ROOT / "docs" / "security-checklist.md").read_text()
    lines = re.findall(r"^\| (\d[\d.]+) \|.*\| (.*) \|$", page, re.MULTILINE)
    return {label: re.findall(r"`([^`]+::[^`]+)`", tests) for label, tests in lines}


@cache
def docstrings(file: str) -> dict[str, str]:
    """Of each function of a test module."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name: ast.get_docstring(function) or "" for function in functions}


def names(test: str, line: str) -> bool:
    """Whether there is the test, and its docstring names the line."""
    file, _, name = test.partition("::")
    return re.search(rf"(?<![\d.]){re.escape(line)}(?!\d)", docstrings(file)[name]) is not None


def test_every_line_is_there() -> None:
    assert list(rows()) == LINES


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_proven_by_tests_that_name_it(line: str) -> None:
    tests = rows()[line]

    assert tests
    assert [test for test in tests if not names(test, line)] == []


def test_what_is_locked_is_new_enough() -> None:
    """The releases that closed what matters here. Checklist 3.4.33."""
    lock = (ROOT / "requirements" / "server.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==([\d.]+)", lock, re.MULTILINE))

    for name, least in LEAST.items():
        assert tuple(map(int, locked[name].split("."))) >= least, name
    assert lock.count("--hash=sha256:") > len(locked)
