"""The combined data set: the training refs of three sets without any image of their other splits.

The literature trains on "combined" by three recipes. The suite's default is that of big_vision,
which drops an image that is in a val or test split of any of the three sets. PolyFormer's
published list of images can be used instead, which also drops the val images of RefCOCOg's google
split. The third recipe is a ready-made file (CARIS, MaskRIS). How it was made is not documented,
so it cannot be repeated.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from benchmark.base.errors import UserError, choose
from benchmark.data.folders import require_dataset
from benchmark.data.pickles import read_pickle
from benchmark.data.refer import ReferDataset, read_refer
from benchmark.data.refs import Ref

PARTS = (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"))


def read_combined(
    root: Path,
    images: Path | None = None,
    rule: Literal["any-split", "list"] = "any-split",
    exclude: Path | None = None,
) -> ReferDataset:
    """Read `refcoco` (unc), `refcoco+` (unc) and `refcocog` (umd) as one data set, `combined`.

    Its `train` holds the three train splits without the excluded images, in the order of `PARTS`.
    Its `val`, on which epochs are selected, is the val split of RefCOCO, so a run on RefCOCO is
    selected on the same expressions.

    ref_id and sent_id count from 0 in every set, so they are numbered anew. ann_id and image_id
    are COCO's and mean the same in all three sets.

    Args:
        root: folder that holds the data sets' folders.
        images: folder with the images, ROOT/images/train2014 by default.
        rule: `any-split` drops the images of any val or test split. `list` drops those of
            `exclude`.
        exclude: a pickled set of image ids (PolyFormer's val_test_files.p), for the rule `list`.

    Raises:
        UserError: one of the three sets or the list is missing or damaged, or `exclude` is given
            without the rule `list` or is missing for it.
    """
    choose(rule, ("any-split", "list"), "rule of the combined data set")
    if (rule == "list") != (exclude is not None):
        raise UserError(
            "The combined data set needs a list of excluded images for the rule 'list', and for it"
            " alone."
        )
    for name, _ in PARTS:
        require_dataset(root, name)
    parts = [read_refer(root, name, split_by, images) for name, split_by in PARTS]
    if exclude is None:
        excluded = {ref.image_id for part in parts for ref in part.refs if ref.split != "train"}
    else:
        excluded = _read_ids(exclude)
    train = [
        ref
        for part in parts
        for ref in part.refs
        if ref.split == "train" and ref.image_id not in excluded
    ]
    val = parts[0].refs_of("val")
    if not train:
        raise UserError(f"Every training image of {root} is excluded: use complete data sets.")
    if leaked := {ref.image_id for ref in train} & {ref.image_id for ref in val}:
        raise UserError(
            f"{exclude} leaves {len(leaked)} val images of RefCOCO in train: get PolyFormer's"
            " val_test_files.p."
        )
    sources = [source for part in parts for source in part.sources]
    return ReferDataset(
        name="combined",
        split_by=rule,
        images={image_id: info for part in parts for image_id, info in part.images.items()},
        refs=_renumbered(train + val),
        segmentations={
            ann_id: value for part in parts for ann_id, value in part.segmentations.items()
        },
        annotation_image={
            ann_id: image_id for part in parts for ann_id, image_id in part.annotation_image.items()
        },
        annotation_category={
            ann_id: category_id
            for part in parts
            for ann_id, category_id in part.annotation_category.items()
        },
        categories={
            category_id: name for part in parts for category_id, name in part.categories.items()
        },
        folder=parts[0].folder,
        skipped=sum(part.skipped for part in parts),
        sources=tuple(sources if exclude is None else [*sources, ("exclude", exclude)]),
    )


def _read_ids(path: Path) -> set[int]:
    ids = read_pickle(path)
    try:
        if not isinstance(ids, set | list | tuple):
            raise TypeError(f"a {type(ids).__name__}")
        return {int(image_id) for image_id in ids}
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path} holds {error} and not a set of image ids: get PolyFormer's val_test_files.p."
        ) from error


def _renumbered(refs: list[Ref]) -> tuple[Ref, ...]:
    renumbered = []
    sent_id = 0
    for ref_id, ref in enumerate(refs):
        sentences = tuple(
            dataclasses.replace(sentence, sent_id=number)
            for number, sentence in enumerate(ref.sentences, sent_id)
        )
        sent_id += len(sentences)
        renumbered.append(dataclasses.replace(ref, ref_id=ref_id, sentences=sentences))
    return tuple(renumbered)
