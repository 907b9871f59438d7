"""A small TRIS, a published one without weights, and its published names."""

import json

import numpy as np
import pytest
import torch

from methods.tris.method import TRIS
from tests.methods.tris.build import FIXTURE, build


@pytest.fixture(scope="module")
def tiny():
    return build()


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return TRIS(TRIS.definition.variants["paper"], 49408)


@pytest.fixture(scope="module")
def keys():
    with np.load(FIXTURE) as archive:
        return {name: json.loads(str(archive[name])) for name in ("keys", "aux_keys")}
