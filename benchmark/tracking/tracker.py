"""What a tracker is: it shows run directories somewhere else, and can be asked to do so again at any time."""

import abc
import dataclasses
from pathlib import Path


@dataclasses.dataclass
class Summary:
    """What a sync did: number of runs created, updated and left alone; key -> reason of those it could not show."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """The runs that could not be shown, a line each."""
        return [f"not shown: {key}: {reason}" for key, reason in self.failed.items()]

    def __str__(self) -> str:
        counts = f"{self.created} runs created, {self.updated} updated, {self.unchanged} unchanged"
        return "\n".join([counts, *self.failures])


class Tracker(abc.ABC):
    """A store that shows runs. The run directories are the truth, so a store may be lost and made again."""

    @abc.abstractmethod
    def sync(self, runs: Path, address: str | None = None) -> Summary:
        """Make the store show what the run directories hold, and return what that took.

        It does nothing twice, however often it is called, and a call that was interrupted is made good by the next.

        Args:
            runs: folder of the run directories. address: of the store [one in that folder].

        Raises:
            UserError: there is no such folder, or the store cannot be used; then nothing is lost.
        """

    @abc.abstractmethod
    def ui_command(self, runs: Path, address: str | None, host: str, port: int) -> list[str]:
        """Return the command line that shows the store in a browser; raises a UserError where there is none."""
