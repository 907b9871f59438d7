"""Which data sets lie in a REFER folder."""

from pathlib import Path

from benchmark.base.errors import UserError

LAYOUT = """\
ROOT/
    refcoco/    instances.json, refs(unc).p
    refcoco+/   instances.json, refs(unc).p
    refcocog/   instances.json, refs(umd).p and, if wanted, refs(google).p
    images/train2014/COCO_train2014_*.jpg"""


def find_datasets(root: Path) -> dict[str, list[str]]:
    """Return name -> ways of splitting of every data set's folder under `root`.

    Raises:
        UserError: `root` is no folder, or holds no data set. The message shows the expected layout.
    """
    datasets: dict[str, list[str]] = {}
    for path in sorted(Path(root).glob("*/refs(*).p")):
        split_by = path.name.removeprefix("refs(").removesuffix(").p")
        datasets.setdefault(path.parent.name, []).append(split_by)
    if not datasets:
        problem = "holds no data set" if Path(root).is_dir() else "is not a folder"
        raise UserError(f"{root} {problem}: give the folder that looks like this.\n{LAYOUT}")
    return datasets


def require_dataset(root: Path, name: str) -> None:
    """Check that a data set whose name is known lies in a REFER folder.

    Raises:
        UserError: it does not lie there. The message lists the data sets that do.
    """
    # The name is right, so the message suggests no similar one as that of `read_refer` would.
    if name not in (present := find_datasets(root)):
        raise UserError(
            f"{root} holds {', '.join(present)} and no data set '{name}': put its folder there."
        )
