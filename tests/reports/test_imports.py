"""Reports need no network: none of their modules imports torch or what belongs to it."""

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
import reports

names = [module.name for module in pkgutil.walk_packages(reports.__path__, "reports.")]
for name in names:
    importlib.import_module(name)
print(len(names), *(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_no_module_of_the_reports_imports_torch():
    heavy = ("torch", "torchvision", "transformers", "timm", "open_clip", "mlflow")
    found = subprocess.run(
        [sys.executable, "-c", CODE, *heavy], capture_output=True, text=True, check=True
    )
    count, *imported = found.stdout.split()
    assert int(count) > 50 and imported == []
