"""Whether what `make build` left can be published: `release_check.py dist`.

The wheel is installed beside the torch of this environment, without an index: were torch, numpy or
scipy to be exchanged, the installation would fail.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

WHEEL = ("equipoise/py.typed", "equipoise/__main__.py", "licenses/LICENSE", "entry_points.txt")
PROGRAMS = ("bin", "Scripts")
SDIST = (
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "docs/training.md",
    "examples/gan.py",
    "tests/test_house.py",
)


def main(folder: Path) -> None:
    """Ends with a sentence for the first thing that is wrong."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    version = wheel.name.split("-")[1]
    problems = [*missing(wheel, sdist), *uncut(version)]
    if problems:
        raise SystemExit("\n".join(problems))
    try_out(wheel)
    print(f"equipoise {version} can be published")


def missing(wheel: Path, sdist: Path) -> Iterator[str]:
    """What should lie in the two files and does not, or should not and does."""
    inside = zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        sources = archive.getnames()
    for names, wanted, file in ((inside, WHEEL, wheel), (sources, SDIST, sdist)):
        for one in wanted:
            if not any(name.endswith(one) for name in names):
                yield f"{file.name} lacks {one}"
    yield from (f"{wheel.name} holds {name}" for name in inside if not name.startswith("equipoise"))


def uncut(version: str) -> Iterator[str]:
    """Whether a release lacks its section of the changelog; what is in development has none."""
    if ".dev" in version:
        return
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    ):
        yield f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`"


def try_out(wheel: Path) -> None:
    """Installs the wheel beside this environment's packages, and runs it."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder)  # without the old setuptools that would come along with pip
        python = next(p for p in Path(folder).glob("*/python*") if p.parent.name in PROGRAMS)
        own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
        (own / "beside.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        pip = ("-m", "pip", "--python", python, "install", "--quiet", "--no-index")
        run(Path(sys.executable), *pip, "--no-deps", "--force-reinstall", wheel)
        run(Path(sys.executable), *pip, wheel)
        where = run(
            python, "-c", "import equipoise, torch; print(equipoise.__file__, torch.__file__)"
        )
        ours, torch = where.split()
        if not ours.startswith(str(own)) or torch.startswith(str(own)):
            raise SystemExit(f"installed in the wrong place: {where}")
        run(python, "-m", "equipoise", "list")


def run(python: Path, *arguments: str | Path) -> str:
    """What it prints; an error of it is shown as it is."""
    command = [python, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603


if __name__ == "__main__":
    main(Path(sys.argv[1]))
