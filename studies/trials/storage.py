"""Where a search keeps its trials: Optuna's storage, SQLite or a server, and the study in it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import optuna
from alembic.util import CommandError
from optuna.exceptions import StorageInternalError
from optuna.storages import InMemoryStorage, RDBStorage
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from benchmark.base.addresses import masked
from benchmark.base.databases import (
    check_owner,
    creation_lock,
    limited,
    parsed,
    reason_of,
    sqlite_address,
)
from benchmark.base.errors import UserError, WorldError
from studies.study import Started
from studies.trials import queue

# These are the references that a trial may be.
PAPER = "paper"
BASELINE = "baseline"
OWN = ("studies", "trials", "version_info")  # tables that Optuna has had in every version
# What Optuna and Alembic raise of a database that is damaged, of another version or another tool's.
UNREADABLE = (CommandError, LookupError, RuntimeError, TypeError, ValueError)


def default_storage(runs: Path) -> str:
    """Return the storage that is used if none is given, an SQLite file beside the runs."""
    return sqlite_address(runs.resolve() / "optuna.db")


@contextlib.contextmanager
def readable_errors(url: str, others: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what a storage can raise into one sentence.

    Args:
        url: of the storage.
        others: further errors that the storage can raise in the block, and nothing else can.

    Raises:
        UserError: `url` is no address.
        WorldError: the storage cannot be used.
    """
    try:
        with queue.without_warnings():
            yield
    except (SQLAlchemyError, StorageInternalError, *others) as error:
        kind = UserError if isinstance(error, ArgumentError) else WorldError
        raise kind(
            f"the storage {masked(url)} cannot be used ({reason_of(error)}). No run is lost: put"
            " it right or give another --storage, such as sqlite:///FILE or"
            " postgresql+psycopg://USER@HOST/DATABASE (`pip install risbench[postgres]`)."
        ) from None


def open_storage(url: str) -> RDBStorage:
    """Return the storage, with the heartbeat by which dead workers are found.

    Raises:
        UserError: it cannot be used.
    """
    with readable_errors(url, UNREADABLE):
        address = parsed(url)
        local = address.get_backend_name() == "sqlite"
        if local and address.database in (None, "", ":memory:"):
            raise UserError(
                f"the storage {masked(url)} is no file, so workers could not share it: give"
                " sqlite:///FILE."
            )
        # Workers that wait for a file wait longer than by default. A server may have closed a
        # connection that was idle.
        engine = {"connect_args": {"timeout": 60}} if local else {"pool_pre_ping": True}
        try:
            # Optuna would make its tables among those of others.
            check_owner(url, OWN, "Optuna")
            # Another process may be making them, of which only some are there.
            with creation_lock(url):
                return RDBStorage(
                    limited(url),
                    engine_kwargs=engine,
                    heartbeat_interval=queue.HEARTBEAT_SECONDS,
                    grace_period=queue.GRACE_SECONDS,
                    heartbeat_stale_trial_callback=queue.after_death,
                )
        except ImportError as error:
            raise UserError(
                f"{url.split(':')[0]} needs a driver ({error}): `pip install 'risbench[postgres]'`."
            ) from None


def _pruner(started: Started) -> optuna.pruners.BasePruner:
    search = started.study
    (base,) = started.bases.values()
    # Optuna prunes searches of a single objective alone.
    if search.pruner == "none" or len(search.objectives) > 1:
        return optuna.pruners.NopPruner()
    return optuna.pruners.HyperbandPruner(
        min_resource=base.selection.every, max_resource=base.recipe.epochs
    )


def open_study(started: Started, url: str) -> optuna.Study:
    """Return the study in its storage.

    A new study begins with the paper's setting and the baseline.

    Raises:
        UserError: the storage cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = started.study
    with readable_errors(url, UNREADABLE):
        study = optuna.create_study(
            storage=open_storage(url),
            study_name=started.name,
            directions=["maximize"] * len(search.objectives),
            pruner=_pruner(started),
            load_if_exists=True,
        )
        if "preset" not in study.user_attrs:
            baseline = {**search.paper, "distill_weight": 0.0}
            study.set_metric_names([f"val {name}" for name in search.objectives])
            study.enqueue_trial(search.paper, {"reference": PAPER}, skip_if_exists=True)
            study.enqueue_trial(baseline, {"reference": BASELINE}, skip_if_exists=True)
            # This comes last, so that a start that was cut short is made good by the next.
            study.set_user_attr("preset", started.preset)
    return study


def existing(started: Started, url: str) -> optuna.Study:
    """Return a copy of the study as it lies in its storage. To read the copy fails no more.

    Raises:
        UserError: the storage does not hold it.
        WorldError: the storage cannot be used.
    """
    copy = InMemoryStorage()
    with readable_errors(url, UNREADABLE):
        address = parsed(url)
        # Optuna would make an empty database where there is none.
        if address.get_backend_name() != "sqlite" or Path(address.database or "").exists():
            storage = open_storage(url)
            if started.name in optuna.get_all_study_names(storage):
                optuna.copy_study(
                    from_study_name=started.name, from_storage=storage, to_storage=copy
                )
                return optuna.load_study(study_name=started.name, storage=copy)
        raise UserError(
            f"study {started.name} is not in {masked(url)}: give the --storage that it was started"
            " with."
        )
