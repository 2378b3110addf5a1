"""Which language a text is written in, by the name of its file.

Pygments keeps a table of names; its lexers, which would read the text, are never loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType

from pygments.lexers import get_all_lexers

from remora_server.core.values import dataclass

PLAIN = "text"  # Pygments' word for no language at all.
RENAMED: Mapping[str, str] = MappingProxyType({"docker": "dockerfile"})  # As everybody else calls it.
# What most people mean where several languages end their names alike.
CHOSEN: Mapping[str, str] = MappingProxyType(
    {
        ".as": "actionscript3",
        ".asm": "nasm",
        ".bas": "vb.net",
        ".cl": "common-lisp",
        ".cp": "cpp",
        ".fs": "fsharp",
        ".gd": "gdscript",
        ".h": "c",
        ".hh": "cpp",
        ".i": "swig",
        ".inc": "php",
        ".inf": "ini",
        ".m": "objective-c",
        ".mm": "objective-c++",
        ".pl": "perl",
        ".pm": "perl",
        ".pro": "prolog",
        ".s": "gas",
        ".S": "gas",
        ".sql": "sql",
        ".t": "perl",
        ".ts": "typescript",
        ".ttl": "turtle",
        ".v": "verilog",
        ".xsl": "xslt",
        ".xslt": "xslt",
    }
)


@dataclass(frozen=True, slots=True)
class _Table:
    names: Mapping[str, str]
    endings: Mapping[str, str]
    patterns: Mapping[str, str]


def language_of(name: str) -> str:
    """Return the language of a file of this name, such as `python`; empty if there is none, or none that is known."""
    table = _table()
    name = name.rpartition("/")[2]
    found = table.names.get(name)
    if found is None:
        found = next((table.endings[one] for one in _endings(name) if one in table.endings), None)
    if found is None:
        found = next((language for one, language in table.patterns.items() if fnmatchcase(name, one)), "")
    return "" if found == PLAIN else RENAMED.get(found, found)


def _endings(name: str) -> list[str]:
    """Return what a name may end in, the longest first, as written and in small letters."""
    parts = name.split(".")
    endings = ["." + ".".join(parts[start:]) for start in range(1, len(parts))]
    return [spelt for one in endings for spelt in (one, one.lower())]


@cache
def _table() -> _Table:
    claims: dict[str, list[tuple[int, str]]] = {}
    for _, aliases, patterns, _ in get_all_lexers(plugins=False):
        for place, pattern in enumerate(patterns if aliases else ()):
            claims.setdefault(pattern, []).append((place, aliases[0].lower()))
    # Whoever names a pattern earlier is more at home there.
    settled = {pattern: min(claimed)[1] for pattern, claimed in claims.items()}
    plain = {pattern: pattern.removeprefix("*") for pattern in settled if not set("*?[") & set(pattern[1:])}
    endings = {ending: settled[one] for one, ending in plain.items() if ending.startswith(".") and ending != one}
    return _Table(
        names={one: settled[one] for one in plain if not one.startswith("*")},
        endings={**endings, **CHOSEN},
        patterns={one: language for one, language in settled.items() if one not in plain},
    )
