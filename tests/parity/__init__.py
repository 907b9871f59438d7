"""Parity with the published networks: the same weights under the published names must give the same numbers.

`python -m tests.parity FIXTURE.npz ...` checks any fixture of the agreed form, also one that is not in this repository. A
method takes part through one adapter, `tests/parity/<method>.py`, with these functions:

- `build(config, keys, words) -> Method`: the published network that the fixture's `config` names, for sentences of `words` ids;
- `tokens(batch, words, seed) -> (ids, attention)`: the sentences, int64 arrays (B, L);
- `forward(method, images, ids, attention) -> Output`, and `forward_words(method, images, words, attention) -> Output` with word
  states in place of the text encoder's, where a fixture has such arrays;
- `logits(output) -> Tensor`: what the arrays `*_logits` hold; `full(output, size) -> Tensor`: what `eval_full*` holds, if any;
- `tolerance(quantity, names) -> Tolerance`: how exactly an array is compared and in which precision;
- `weights`: the module with `from_published`, `to_published` and `to_published_names`;
- `UNREAD`, if there are any: names of a published state dict that nothing reads and our network does without.
"""
