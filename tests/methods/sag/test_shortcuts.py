"""What SaG computes on a shorter way than the published code, against that code's own way."""

import torch

from methods.backbones import bert
from methods.backbones.sizes import TINY_BERT
from methods.sag.network import SlotDecoder, TextEncoder


def test_padding_behind_the_longest_sentence_is_left_out(monkeypatch):
    torch.manual_seed(0)
    encoder = TextEncoder(TINY_BERT, 8, 50).double().eval()
    ids = torch.zeros(3, 20, dtype=torch.int64)
    for row, length in enumerate((4, 9, 6)):
        ids[row, :length] = torch.randint(5, 50, (length,))
    attention = (ids > 0).long()
    whole = encoder.encode(ids, attention)[1]
    lengths = []
    encode = bert.encode
    monkeypatch.setattr(
        bert, "encode", lambda *given: lengths.append(given[1].shape[1]) or encode(*given)
    )
    torch.testing.assert_close(encoder(ids, attention), whole)
    assert lengths == [9]
    with torch.device("meta"):
        assert bert.longest(torch.ones(3, 20, dtype=torch.int64)) == 20, "no device is waited for"


def test_the_first_layer_is_that_of_every_slot_at_every_place():
    torch.manual_seed(0)
    decoder = SlotDecoder(8, 5).double()
    slots = torch.randn(2, 4, 8, dtype=torch.float64)
    columns, rows = (decoder.pos_emb[name].weight for name in ("col_embed", "row_embed"))
    position = torch.stack([torch.cat([columns[x], rows[y]]) for y in range(3) for x in range(2)])
    painted = decoder.mlp(slots[:, :, None] + position)
    expected = (painted[..., -1:].softmax(1) * painted[..., :-1]).sum(1)
    wanted = [*decoder.parameters()]
    found = decoder(slots, 3, 2)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), wanted),
        torch.autograd.grad(expected.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
