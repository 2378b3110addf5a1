"""The tree is as its maps say: a test beside each rule and each servicer, a line for each module, no drawers."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "remora_server"
CORE = SERVER / "core"
RPC = SERVER / "rpc"
MAP = (ROOT / "server" / "README.md").read_text(encoding="utf-8")
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "buf.yaml", ".gitignore", ".ci"),
    *("proto", "server", "clients", "scripts", "tests"),
}
TESTS = ROOT / "tests"
DIALECTS = sorted(path.stem for path in (SERVER / "gateway" / "dialects").glob("*.py") if path.stem != "__init__")
WITHOUT_TEST = {"__init__", "model", "ports", "errors"}  # They only say what things are.
DRAWERS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "service", "services", "misc"}
GENERATED = "clients/python/remora/v1/"


def tracked() -> list[Path]:
    """Return every file that is or would be committed; without git, every file that is not known rubbish."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if (ROOT / ".git").exists():
        done = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        rubbish = re.compile(r"(^|/)(\.venv|__pycache__|\.\w+_cache|\.hypothesis|dist|remora-data)(/|$)|/\.coverage")
        paths = [path for path in ROOT.rglob("*") if path.is_file() and not rubbish.search(f"{path.relative_to(ROOT)}")]
    return sorted(path for path in paths if path.is_file())


FILES = tracked()
MODULES = [path for path in FILES if path.suffix == ".py" and GENERATED not in path.as_posix()]


def servicers() -> list[str]:
    """Return the modules of `rpc` that serve a service of the contract."""
    return sorted(
        path.stem
        for path in RPC.glob("*.py")
        if re.search(r"^class \w+Service\(.*Servicer\):", path.read_text(encoding="utf-8"), re.MULTILINE)
    )


def mapped() -> set[str]:
    """Return the modules that the map's tree has a line for."""
    block = MAP.partition("## The tree")[2].split("```")[1]
    folders: list[str] = []
    found: set[str] = set()
    for line in block.strip().splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders[depth - 1 :] = [name]
        found.add("".join(folders))
    return found


def test_the_top_level_is_what_the_house_says() -> None:
    """Anything new beside the rooms is a decision, and begins here."""
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == TOP_LEVEL


@pytest.mark.parametrize("name", sorted({path.stem for path in CORE.glob("*.py")} - WITHOUT_TEST))
def test_each_core_module_has_its_test(name: str) -> None:
    """`core/X.py` is tested by `tests/core/test_X.py`, without a server."""
    assert (ROOT / "tests" / "core" / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", servicers())
def test_each_servicer_has_its_test(name: str) -> None:
    """`rpc/X.py` is tested by `tests/rpc/test_X.py`, through a real server."""
    assert (ROOT / "tests" / "rpc" / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", DIALECTS)
def test_each_dialect_has_its_test_and_its_exchanges(name: str) -> None:
    """What a dialect's document shows is recorded, and replayed by the dialect's own test."""
    tests = TESTS / "gateway"
    assert (tests / "dialects" / f"test_{name}.py").exists()
    assert list((tests / "exchanges" / name).glob("*.json"))


def test_the_servicers_were_found() -> None:
    """An empty list would pass the test above."""
    assert len(servicers()) == len(list((ROOT / "proto" / "remora" / "v1").glob("*_service.proto")))


def test_each_module_says_what_it_is_for() -> None:
    """Its first statement is a docstring, and its name is no drawer."""
    assert [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []
    assert [path for path in MODULES if path.stem in DRAWERS] == []


def test_the_map_has_a_line_for_each_module() -> None:
    """Neither a module without a line, nor a line without a module."""
    modules = {
        path.relative_to(SERVER).as_posix()
        for path in MODULES
        if path.is_relative_to(SERVER) and path.name != "__init__.py" and path.parent.name != "migrations"
    }
    assert {name for name in mapped() if not name.endswith("/")} == modules


def test_the_ten_second_answers_exist() -> None:
    """Each file of the table is there."""
    table = MAP.partition("## Ten-second answers")[2].partition("\n## ")[0]
    answers = re.findall(r"^\| .* \| `(.+)` \|$", table, re.MULTILINE)
    assert len(answers) > 10
    assert [name for name in answers if not (SERVER / name).exists()] == []


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link in a page names a file of the repository."""
    pages = [path for path in FILES if path.suffix == ".md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!\w+:|#)([^)#]+)", page.read_text("utf-8"))]
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []
