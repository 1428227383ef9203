"""Run Autobahn's conformance suite against both ways to keep a session, and say what is not to the letter.

make conform WSTEST=path/to/wstest ARGS="1.* 6.4.*": wstest is that of autobahntestsuite 0.8.2, which needs Python 2.7:
    virtualenv -p python2.7 autobahn && autobahn/bin/pip install autobahntestsuite==0.8.2
Compression (12, 13) is left out, unless it is asked for by its number: 1,000 messages in each of 216 cases take long.
Exit code 1 when a case has failed.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

PATHS: Final = ("detached", "ordinary")
ALL_CASES: Final = tuple(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 9, 10))
SUITE_SECONDS: Final = 7_200
PASSED: Final = frozenset({"OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED"})


def main(wstest: str, cases: Sequence[str]) -> int:
    """Returns the exit code."""
    targets = {path: _start(path) for path in PATHS}
    try:
        urls = {path: _url_of(target) for path, target in targets.items()}
        with tempfile.TemporaryDirectory() as folder:
            results = _run(wstest, urls, cases or ALL_CASES, Path(folder))
    finally:
        for target in targets.values():
            target.kill()
            target.wait()
    have_passed = [_report(path, results[path]) for path in PATHS]
    return 0 if all(have_passed) else 1


def _start(path: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "notifier", "conform-target", "--port", "0", "--path", path, "--deflate"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _url_of(target: "subprocess.Popen[str]") -> str:
    assert target.stdout is not None
    with target.stdout as stdout:
        return stdout.readline().split()[0]


def _run(wstest: str, urls: Mapping[str, str], cases: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """The outcome of each case, by path."""
    spec = {
        "outdir": str(folder),
        "servers": [{"agent": path, "url": url} for path, url in urls.items()],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    spec_file = folder / "spec.json"
    spec_file.write_text(json.dumps(spec))
    command = [wstest, "--mode", "fuzzingclient", "--spec", str(spec_file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=SUITE_SECONDS)
    results: Mapping[str, Any] = json.loads((folder / "index.json").read_text())
    return results


def _report(path: str, cases: Mapping[str, Mapping[str, str]]) -> bool:
    """Print how a path did. Returns whether nothing has failed."""
    kinds = Counter(case["behavior"] for case in cases.values())
    print(f"{path}: {len(cases)} cases: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}")
    outcomes = {number: {case["behavior"], case["behaviorClose"]} for number, case in cases.items()}
    for number, outcome in sorted(outcomes.items()):
        if not outcome <= {"OK", "INFORMATIONAL"}:
            print(f"  {number} {' '.join(sorted(outcome))}")
    return all(outcome <= PASSED for outcome in outcomes.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
