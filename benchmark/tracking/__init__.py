"""Trackers show runs somewhere else.

A module `<name>_store.py` here defines `TRACKER`, which is the tracker called `<name>`.
"""

import importlib
import os
import pkgutil
from collections.abc import Mapping

from benchmark.base.registry import Loader, Registry
from benchmark.tracking.tracker import Tracker

# MLflow reads these when it is imported, so they are set before any module of this room can do so.
# The server of a user interface inherits them. The last two are low because a dead server must not
# hold up a sync for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

SUFFIX = "_store"
DEFAULT = "mlflow"


def _shipped() -> Mapping[str, Loader]:
    modules = [
        module.name for module in pkgutil.iter_modules(__path__) if module.name.endswith(SUFFIX)
    ]
    return {
        name.removesuffix(SUFFIX): lambda name=name: (
            importlib.import_module(f"{__name__}.{name}").TRACKER
        )
        for name in modules
    }


TRACKERS: Registry[Tracker] = Registry("trackers", "tracker", _shipped, lambda: Tracker)
