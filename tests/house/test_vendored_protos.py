"""The vendored google/ protos are those of the installed googleapis-common-protos, and no others are there."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "proto" / "vendor"
VENDORED = sorted(path.relative_to(VENDOR) for path in VENDOR.rglob("*.proto"))
BUILT_IN = "google/protobuf/"


def imports_of(proto: Path) -> set[str]:
    """Return the files that a proto imports."""
    return set(re.findall(r'^import "(.+)";', proto.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_copy_equals_the_installed_file() -> None:
    """A copy is byte for byte what the runtime package ships; if not, run scripts/vendor-protos."""
    assert VENDORED
    for relative in VENDORED:
        package = importlib.import_module(".".join(relative.parent.parts))
        shipped = [Path(folder) / relative.name for folder in package.__path__]
        installed = next(path for path in shipped if path.exists())
        assert (VENDOR / relative).read_bytes() == installed.read_bytes(), relative


def test_exactly_what_is_imported_is_vendored() -> None:
    """Nothing is missing and nothing is left over."""
    ours = (ROOT / "proto" / "remora").rglob("*.proto")
    copies = (VENDOR / relative for relative in VENDORED)
    wanted = {name for proto in (*ours, *copies) for name in imports_of(proto)}
    google = {name for name in wanted if name.startswith("google/") and not name.startswith(BUILT_IN)}
    assert google == {relative.as_posix() for relative in VENDORED}


def test_google_packages_are_never_generated() -> None:
    """The runtime takes google/ from its own package; a second copy would collide with it."""
    assert not (ROOT / "clients" / "python" / "google").exists()
