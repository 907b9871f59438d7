"""Launchers start the jobs of matrices, studies, searches and robustness, and watch them.

A launcher is one module of this folder that defines `LAUNCHER`, a subclass of `base.Launcher`. It
has the name of its module, and is found without being imported.
"""

import functools
import importlib
import re
from abc import ABCMeta
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.base.registry import Loader, Registry
from benchmark.launch.base import JobStatus, Launcher, read_job

DEFAULT = "local"


@functools.cache
def _shipped() -> Mapping[str, Loader]:
    def loader(name: str) -> Any:
        return importlib.import_module(f"{__name__}.{name}").LAUNCHER

    files = sorted(Path(__file__).parent.glob("*.py"))
    names = [
        file.stem for file in files if re.search(r"^LAUNCHER\b", file.read_text(), re.MULTILINE)
    ]
    return {name: functools.partial(loader, name) for name in names}


# What is registered is a class. `ABCMeta` is the type of `Launcher` and of its subclasses.
LAUNCHERS: Registry[type[Launcher]] = Registry("launchers", "launcher", _shipped, lambda: ABCMeta)


def job_status(folder: Path) -> JobStatus | None:
    """Return the status of the job of `folder`, whoever submitted it, or None where there was none.

    Raises:
        UserError: `job.json` is damaged, or its launcher is not known here.
    """
    record = read_job(folder)
    if record is None:
        return None
    launcher = LAUNCHERS.get(record.launcher)(slots=1)
    launcher.adopt(record)
    return launcher.poll([record.id])[record.id]
