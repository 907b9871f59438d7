"""Parity with the published networks: the same weights under the published names must
give the same numbers.

`python -m tests.parity FIXTURE.npz ...` checks any fixture of the agreed form, also one
that is not in this repository. A method takes part through one adapter,
`tests/parity/<method>.py`, with

- `build(config, keys, words) -> Method`: the published network that the fixture's
  `config` names, for sentences of `words` ids;
- `tolerance(quantity, suffixes) -> Tolerance`: how exactly an array is compared and in
  which precision;
- `weights`: the method's `weights.py`, with `from_published` and `to_published`;
- `names_of(keys)`, if a published network goes by several sets of names: what stands in the
  place of `weights` for a fixture with these names;
- `UNREAD`, if there are any: names of a published state dict that nothing reads and our
  network does without.

Where the names of a fixture's arrays follow the naming rule (see `arrays.py`), the
harness runs the network itself and asks for

- `tokens(batch, words, seed) -> (ids, attention)`: the sentences, int64 arrays (B, L);
- `forward(method, images, ids, attention) -> Output`;
- `forward_words(method, images, words, attention) -> Output`, with word states in place
  of the text encoder's, where a fixture has such arrays;
- `logits(output) -> Tensor`: what the arrays `*_logits` hold;
- `full(output, size) -> Tensor`: what `eval_full*` holds, if any.

Where they do not (TRIS, SaG), the adapter runs it, and `tolerance` is asked with an
array's name and no suffixes:

- `arrays(filled, archive, config, keys) -> Iterator[(name, value)]`: everything that it
  compares. `filled(seed) -> Method` is the network with the weights of a fill seed, in
  eval mode, without dropout and gradients. It is one network, filled anew at every
  call. A value is an array, a tensor or a number. A dict is compared with JSON norms by
  name, a set with a JSON list of names (the difference counts those that disagree), and
  of stored uint8 arrays the bits that differ are counted;
  Of the arrays `*_alt`, which are of another input and the same weights, it is asked once more
  with `config["alternative"]` true and the archive's own inputs of that name in place of the
  first. An array is called without `_alt` there;
- `INPUTS`: arrays that it only reads. What is neither compared nor an input is
  reported, and the command fails.

A fixture of six optimizer steps names another one, beside it, whose network is trained
(`steps.py`). For it an adapter has `tokens`, as above, and, where a method needs them,

- `STEP_VARIANT`: whose recipe is the published one, `paper` if it is not said;
- `STEP_LIMITS`: tolerances other than the usual ones, for `moved` and `other`;
- `step_noise(config, seed)` and `step_negatives(config, seed)`: what else a step is given;
- `complete(method, archive, config)`: fills what is no part of the network.
"""
