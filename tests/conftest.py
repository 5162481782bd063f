"""What all tests share: the package of this checkout, and one thread for torch."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "tools"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small nets lose more by threads than they gain, and sums come out in one fixed order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter):
    """Pages that nobody looked at deserve a line of their own."""
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if "test_pages.py" in report.nodeid
    ]
    if skipped:
        terminalreporter.section("THE PAGES WERE NOT TESTED")
        terminalreporter.line(f"{len(skipped)} tests skipped. {skipped[0].longrepr[-1]}")
