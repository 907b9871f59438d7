"""Where the data of a run are looked for once it has been trained."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.runs.execution import Places
from benchmark.runs.opened import places_of


def trained(dataset, root, images):
    found = {"data": {"root": str(root), "images": str(images)}}
    return SimpleNamespace(
        key="x", read_json=lambda name: found, any_spec=lambda: SimpleNamespace(dataset=dataset)
    )


@pytest.mark.parametrize(
    ("dataset", "own"),
    [
        ("refcoco", "images/train2014"),
        ("rrsisd", "images/rrsisd/JPEGImages"),
        ("mine", "images/train2014"),
    ],
)
def test_a_folder_of_photographs_that_somebody_named_is_named_again(dataset, own, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    assert places_of(trained(dataset, tmp_path, elsewhere), Places(None)).images == elsewhere
    # Its own folder is not that of another data set on which it may be evaluated.
    places = places_of(trained(dataset, tmp_path, tmp_path / own), Places(None))
    assert (places.data, places.images) == (tmp_path, None)
    named = Places(None, images=Path("/named"))
    assert places_of(trained(dataset, tmp_path, elsewhere), named).images == Path("/named")
