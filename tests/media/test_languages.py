"""Languages of files by their names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from remora_server.media.languages import language_of

USUAL = {
    "main.py": "python",
    "types.pyi": "python",
    "main.go": "go",
    "lib.rs": "rust",
    "app.js": "javascript",
    "module.mjs": "javascript",
    "app.ts": "typescript",
    "view.tsx": "tsx",
    "view.jsx": "jsx",
    "view.vue": "vue",
    "index.html": "html",
    "site.css": "css",
    "site.scss": "scss",
    "data.json": "json",
    "data.xml": "xml",
    "ci.yml": "yaml",
    "ci.yaml": "yaml",
    "pyproject.toml": "toml",
    "setup.ini": "ini",
    "README.md": "markdown",
    "README.MD": "markdown",
    "Main.java": "java",
    "Main.kt": "kotlin",
    "Main.scala": "scala",
    "Main.swift": "swift",
    "Main.cs": "csharp",
    "Main.fs": "fsharp",
    "main.c": "c",
    "main.h": "c",
    "main.cpp": "cpp",
    "main.hpp": "cpp",
    "main.m": "objective-c",
    "main.rb": "ruby",
    "main.pl": "perl",
    "main.php": "php",
    "main.lua": "lua",
    "main.sh": "bash",
    "main.ps1": "powershell",
    "main.bat": "batch",
    "main.hs": "haskell",
    "main.ex": "elixir",
    "main.dart": "dart",
    "main.sql": "sql",
    "main.proto": "protobuf",
    "main.graphql": "graphql",
    "main.tf": "terraform",
    "main.tex": "tex",
    "fix.diff": "diff",
    "fix.patch": "diff",
    "Dockerfile": "dockerfile",
    "Makefile": "make",
    "CMakeLists.txt": "cmake",
    "nested/path/main.py": "python",
}
NOT_CODE = ["notes.txt", "photo.jpg", "archive.tar.gz", "report.pdf", "", ".", "no-ending", "trailing.", "x" * 5000]


@pytest.mark.parametrize("name", USUAL)
def test_usual_names(name: str) -> None:
    """Also where Pygments knows several languages for an ending."""
    assert language_of(name) == USUAL[name]


@pytest.mark.parametrize("name", NOT_CODE)
def test_names_that_tell_nothing(name: str) -> None:
    """No language, and no error, whatever the name."""
    assert language_of(name) == ""


def test_no_lexer_is_loaded() -> None:
    """The table is enough: lexers are many and large, and would be given content."""
    program = (
        "import sys\n"
        "from remora_server.media.languages import language_of\n"
        "assert language_of('x.py') == 'python'\n"
        "print([one for one in sys.modules if one.startswith('pygments.lexers.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.strip() == "['pygments.lexers._mapping']"
