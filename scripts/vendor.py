"""Fetch the console's third-party files from their npm packages: `python scripts/vendor.py`. Needs npm.

The versions are pinned here; files, licences and digests are listed in static/vendor/PACKAGES.json.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "src" / "headrace" / "server" / "console" / "static" / "vendor"
PACKAGES = [
    ("htmx.org", "4.0.1", "0BSD", ["dist/htmx.min.js", "dist/ext/hx-sse.min.js"]),
    ("uplot", "1.6.32", "MIT", ["dist/uPlot.iife.min.js", "dist/uPlot.min.css"]),
    ("@dagrejs/dagre", "3.1.3", "MIT", ["dist/dagre.min.js"]),
]


def main() -> None:
    listed = []
    for package, version, licence, files in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            packed = subprocess.run(
                ["npm", "pack", "--silent", f"{package}@{version}"],
                cwd=folder,
                check=True,
                capture_output=True,
                text=True,
            )
            with tarfile.open(Path(folder) / packed.stdout.split()[-1]) as archive:
                taken = {Path(file).name: _read(archive, file) for file in files}
                name = f"LICENSE.{package.rpartition('/')[2].removesuffix('.org')}"
                (FOLDER / name).write_bytes(_read(archive, "LICENSE"))
        for file, content in taken.items():
            (FOLDER / file).write_bytes(content)
        digests = {file: hashlib.sha256(content).hexdigest() for file, content in taken.items()}
        listed.append(
            {"package": package, "version": version, "licence": licence, "licence_file": name, "files": digests}
        )
    (FOLDER / "PACKAGES.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    print(f"{len(listed)} packages in {FOLDER}")


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"package/{name}")
    assert file is not None, name
    return file.read()


if __name__ == "__main__":
    main()
