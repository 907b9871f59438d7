"""In which precision passes are computed, and that float32 means float32."""

import pytest
import torch

from methods.config import Recipe
from methods.precision import computed_in, float32_settings, set_float32

CPU = torch.device("cpu")
FIELDS = {"epochs": 1, "batch_size": 1, "micro_batch": 1, "learning_rate": 1, "optimizer": "adam"}


@pytest.fixture(autouse=True)
def as_before():
    """Leave torch's settings as other tests expect them."""
    yield
    set_float32("fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_float32_is_never_rounded(precision):
    """torch rounds the products of convolutions to TF32 unless it is told not to."""
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    with computed_in(precision, CPU):
        pass
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert float32_settings() == {
        "tf32": False,
        "cudnn_tf32": False,
        "cudnn_benchmark": False,
        "cudnn_deterministic": False,
    }


def test_tf32_is_a_precision_of_its_own():
    with computed_in("tf32", CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.float32, "autocast is off"
    # The backward pass comes after the block.
    assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    assert float32_settings()["tf32"] and float32_settings()["cudnn_tf32"]
    assert Recipe(**FIELDS, precision="tf32").precision == "tf32"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_computes_products_in_its_type(precision):
    with computed_in(precision, CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_precision_is_that_of_the_presets_unless_it_is_changed():
    assert Recipe(**FIELDS).precision == "fp32"
