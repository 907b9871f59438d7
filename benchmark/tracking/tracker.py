"""A tracker shows run directories somewhere else, and can do so again at any time."""

import abc
import contextlib
import dataclasses
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.tracking.group_report import ReportMaker


@dataclasses.dataclass
class Summary:
    """What a sync did.

    Attributes:
        created: number of runs that are new in the store.
        updated: number of runs that changed.
        unchanged: number of runs that were left alone.
        failed: run key -> why the run could not be shown.
        unregistered: model -> why its best run could not be registered.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    unregistered: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """The runs that could not be shown, one line each."""
        return [f"not shown: {key}: {reason}" for key, reason in self.failed.items()]

    def __str__(self) -> str:
        counts = f"{self.created} runs created, {self.updated} updated, {self.unchanged} unchanged"
        models = [f"no model {name}: {reason}" for name, reason in self.unregistered.items()]
        return "\n".join([counts, *self.failures, *models])


class Tracker(abc.ABC):
    """A store that shows runs.

    The run directories are the truth, so a store may be lost and made again.

    Attributes:
        first_clicks: what to click first in its user interface, a sentence for each.
    """

    first_clicks: tuple[str, ...] = ()

    @abc.abstractmethod
    def sync(
        self,
        runs: Path,
        address: str | None = None,
        reports: ReportMaker | None = None,
        later: bool = False,
    ) -> Summary:
        """Make the store show what the run directories hold, and return what that took.

        It does nothing twice, however often it is called. The next call completes one that was
        interrupted.

        Args:
            runs: folder of the run directories.
            address: of the store, which is one in that folder by default.
            reports: makes what is said of groups. Without it nothing is said of them.
            later: whether reports may stay as they are, for a later call.

        Raises:
            UserError: there is no such folder, or the store cannot be used. Nothing is lost then.
        """

    @abc.abstractmethod
    def ui_command(
        self, runs: Path, address: str | None, host: str, port: int
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command line that shows the store in a browser, and variables for it.

        A password is handed over in such a variable, since everybody can read command lines.

        Args:
            runs: folder of the run directories.
            address: of the store, which is one in that folder by default.
            host: address that the server listens at.
            port: port that the server listens at.

        Raises:
            UserError: there is no such command for this store.
        """

    def fetched(self, address: str) -> contextlib.AbstractContextManager[Path]:
        """Give a folder that holds what the store shows, laid out like a folder of runs.

        The same reports can be written from it. It is deleted when the context ends. A tracker that
        does not hold all that a report reads leaves this as it is.

        Args:
            address: of the store.

        Raises:
            UserError: the store cannot be used or holds too little, or it shows no runs.
        """
        raise UserError("this tracker does not hold what a report reads: read the runs' folder.")
