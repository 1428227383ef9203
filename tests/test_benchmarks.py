"""The benchmarks that hold on to the inside of the service still do; to measure takes too long for a test."""

import re
from pathlib import Path

from tests.benchmarks.encodings import encodings
from tests.benchmarks.spinning import FILE
from tests.docs.pages import ROOT
from tests.replica import Replica


def test_the_server_with_a_spinner_serves_and_notes(tmp_path: Path) -> None:
    notes = tmp_path / "stretches"
    replica = Replica(tmp_path / "log", {FILE: str(notes)}, module="tests.benchmarks.spinning")

    assert replica.stop() == 0
    assert all(len(line.split()) == 3 for line in notes.read_text().splitlines())


def test_docs_scale_with_the_encodings_there_are() -> None:
    sealed, alone, dense, frame = (round(figure.value) for figure in encodings())
    page = (ROOT / "docs/scaling.md").read_text()

    row = re.search(r"\| a notification in the journal \| (.*) \|", page)
    assert row is not None
    assert row[1] == f"{alone} bytes, or {dense} in dense records, for {sealed} sealed; on the socket {frame}"
