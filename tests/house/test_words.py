"""No file says where it was written: no folders of one machine, no address of a package registry."""

import re
from pathlib import Path

from tests.house.test_tree import FILES

MACHINE = re.compile(r"(?<![\w./])/(?:root|work|home/\w+|Users/\w+)(?![\w-])")
REGISTRY = re.compile(r"pypi\.|pythonhosted\.|proxy\.golang\.|npmjs\.|crates\.|index-url")


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """Paths are relative or made up, and packages come from wherever the reader's tools look."""
    found = [
        (path, match[0])
        for path in FILES
        if path != Path(__file__)
        for pattern in (MACHINE, REGISTRY)
        for match in pattern.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
