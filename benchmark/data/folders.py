"""Which data sets lie in a REFER folder."""

from pathlib import Path

from benchmark.base.errors import UserError

COCO = "images/train2014"  # folder of the photographs of most sets, in ROOT
INSTANCES = "instances.json"
# The file of a data set's refs by its way of splitting. If a folder has several, the first counts.
REFS = ("refs({}).p", "grefs({}).p", "grefs({}).json")
LAYOUT = """\
ROOT/
    refcoco/    instances.json, refs(unc).p
    refcoco+/   instances.json, refs(unc).p
    refcocog/   instances.json, refs(umd).p and, if wanted, refs(google).p
    grefcoco/   instances.json, grefs(unc).json
    images/train2014/COCO_train2014_*.jpg"""


def present_datasets(root: Path) -> dict[str, list[str]]:
    """Return name -> ways of splitting of every data set's folder under `root`, if there are any.

    A folder with annotations and without refs has no way of splitting.
    """
    ways: dict[str, set[str]] = {}
    for path in Path(root).glob(f"*/{INSTANCES}"):
        ways.setdefault(path.parent.name, set())
    for pattern in REFS:
        before, after = pattern.split("{}")
        for path in Path(root).glob(f"*/{pattern.format('*')}"):
            way = path.name.removeprefix(before).removesuffix(after)
            ways.setdefault(path.parent.name, set()).add(way)
    return {name: sorted(ways[name]) for name in sorted(ways)}


def find_datasets(root: Path) -> dict[str, list[str]]:
    """Return name -> ways of splitting, at least one, of every data set's folder under `root`.

    Raises:
        UserError: `root` is no folder, or holds no data set. The message shows the expected layout.
    """
    datasets = {name: ways for name, ways in present_datasets(root).items() if ways}
    if not datasets:
        problem = "holds no data set" if Path(root).is_dir() else "is not a folder"
        raise UserError(f"{root} {problem}: give the folder that looks like this.\n{LAYOUT}")
    return datasets


def refs_path(root: Path, name: str, split_by: str) -> Path:
    """Return the file of a data set's refs, which lies there or not."""
    paths = [Path(root) / name / pattern.format(split_by) for pattern in REFS]
    return next((path for path in paths if path.exists()), paths[0])


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
