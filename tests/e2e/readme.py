"""What README.md shows: its commands, what they print, and its Python, for tests to run as a newcomer would."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "localhost:7460"
BAR = "━"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SIZE = r"\d+(?:\.\d+)? (?:bytes|[kMGT]B)"
_LOOSE = re.compile(rf"([0-9a-f]{{8}}…|…|(?!\b0 bytes)\b{_SIZE}\b|\d+)")


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and the lines that it is said to print; `^C` among them is a key press."""

    command: str
    shown: tuple[str, ...]

    @property
    def interrupted(self) -> bool:
        """Tell whether the newcomer presses ^C."""
        return "^C" in self.shown

    @property
    def expected(self) -> tuple[str, ...]:
        """Return the lines that stay on the screen."""
        return tuple(line for line in self.shown if line != "^C" and BAR not in line)


def blocks(language: str, page: Path = README) -> list[str]:
    """Return the blocks of a page that are marked with a language."""
    return [body for marked, body in _BLOCK.findall(page.read_text(encoding="utf-8")) if marked == language]


def steps() -> list[Step]:
    """Return every step of every console block, in order."""
    found: list[Step] = []
    for block in blocks("console"):
        command: list[str] = []
        shown: list[str] = []
        going_on = False
        for line in [*block.splitlines(), "$ "]:
            if line.startswith("$ "):
                if command:
                    found.append(Step("\n".join(command), tuple(shown)))
                command, shown = [line.removeprefix("$ ")], []
                going_on = _goes_on(command)
            elif going_on:
                command.append(line)
                going_on = _goes_on(command)
            else:
                shown.append(line)
    return found


def differences(step: Step, printed: str) -> str:
    """Return why output is not as shown: ids, numbers, sizes and what `…` stands for may differ; nothing if it is."""
    pattern = "".join(".*" if line == "…" else f"{_line(line)}\n" for line in step.expected)
    if re.fullmatch(pattern, printed, re.DOTALL):
        return ""
    return f"{step.command}\nshows\n" + "\n".join(step.expected) + f"\nbut printed\n{printed}"


def _goes_on(command: list[str]) -> bool:
    text = "\n".join(command)
    return text.endswith("\\") or text.count("'") % 2 == 1


def _line(line: str) -> str:
    # Sizes first, so that their units may differ too; zero bytes are zero bytes.
    return "".join(_loosened(part) if _LOOSE.fullmatch(part) else re.escape(part) for part in _LOOSE.split(line))


def _loosened(part: str) -> str:
    if part.endswith("…"):
        return r"[^\n]*"
    if part.isdigit():
        return "0" if part == "0" else r"\d+"
    return _SIZE
