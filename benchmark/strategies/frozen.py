"""How the strategies that runs were made with first stand in a run's spec: a table that never changes.

Keys of runs are digests of their specs, so what a spec says of these eleven strategies is wire format. Each of them
stands there with the fields that one class for all strategies once had, whether it uses them or not. Strategies that came
later write their own settings alone.
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
    """Return what the spec of a run says of one of `NAMES` with its own settings."""
    known = {field: settings.get(field, value) for field, value in _BEFORE.items()}
    added = {field: value for field, value in settings.items() if field not in _BEFORE}
    return {"name": name, **known, **added, "revision": revision}


def own_settings(values: Mapping[str, Any], settings: set[str]) -> dict[str, Any]:
    """Return the fields of a spec that a strategy with these settings reads: the others have their frozen values.

    Raises:
        ValueError: one of the others has another value, so the spec was changed by hand.
    """
    for field, value in values.items():
        if field in _BEFORE and field not in settings:
            frozen = _BEFORE[field]
            if (tuple(value) if isinstance(value, list) else value) != frozen:
                raise ValueError(f"{field} is {value}, which this strategy does not use")
    return {
        field: value for field, value in values.items() if field in settings or field not in _BEFORE
    }
