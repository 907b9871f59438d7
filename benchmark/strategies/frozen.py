"""What the spec of a run says of the first eleven strategies. This table never changes.

The key of a run is the digest of its spec, so another word here would give old runs new keys. Each
of the eleven stands in a spec with the fields that one class for all strategies once had, whether
it uses them or not. Strategies that came later write only their own settings.
"""

from collections.abc import Mapping
from typing import Any

NAMES = (
    "baseline",
    "image-masking",
    "text-masking",
    "masking",
    "maskris-image",
    "maskris-text",
    "maskris",
    "crop",
    "flip",
    "jitter",
    "crop-flip-jitter",
)
_BEFORE: Mapping[str, Any] = {
    "image_mask": False,
    "text_mask": False,
    "distillation": False,
    "distill_weight": 0.5,
    "image_mask_ratio": 0.75,
    "patch_size": 32,
    "image_mask_sampling": "patch",
    "text_mask_ratio": 0.15,
    "text_mask_shares": (0.8, 0.1, 0.1),
    "batchnorm_in_masked_pass": True,
    "augment_probability": 0.5,
}


def key_fields(name: str, settings: Mapping[str, Any], revision: int) -> dict[str, Any]:
    """Return what the spec of a run says of one of `NAMES`.

    Args:
        name: of the strategy.
        settings: its own settings and their values.
        revision: of the strategy.
    """
    known = {field: settings.get(field, value) for field, value in _BEFORE.items()}
    added = {field: value for field, value in settings.items() if field not in _BEFORE}
    return {"name": name, **known, **added, "revision": revision}


def own_settings(values: Mapping[str, Any], settings: set[str]) -> dict[str, Any]:
    """Return the fields of a spec that a strategy with these settings reads.

    Raises:
        ValueError: a field that it does not read differs from its frozen value, so the spec was
            changed by hand.
    """
    for field, value in values.items():
        if field in _BEFORE and field not in settings:
            frozen = _BEFORE[field]
            if (tuple(value) if isinstance(value, list) else value) != frozen:
                raise ValueError(f"{field} is {value}, which this strategy does not use")
    return {
        field: value for field, value in values.items() if field in settings or field not in _BEFORE
    }
