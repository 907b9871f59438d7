"""What a command reads of data and weights: each data set, word pieces and digest once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import methods
from benchmark.base import pretrained
from benchmark.base.errors import UserError
from benchmark.data import datasets
from benchmark.data.refer import ReferDataset
from benchmark.data.tokenizers import Tokenizer, published_tokenizer
from benchmark.data.word_pieces import kept_tokenizer
from benchmark.runs import splits
from benchmark.runs.execution import Places
from benchmark.runs.predictions import AnySpec
from benchmark.runs.rundir import RunDir
from benchmark.runs.spec import RunSpec
from methods.config import Config, Definition


def places_of(run: RunDir, places: Places) -> Places:
    """Return `places` with the folder of a run's data.

    The folder is the one that `places` name, or else the one where the run found its data last.

    Raises:
        UserError: `places` name no data, and the run has not seen any yet.
    """
    if places.data is not None:
        return places
    known = run.read_json("environment.json").get("data", {})
    if not known:
        raise UserError(f"run {run.key} has not seen its data yet: give their folder with --data.")
    root = Path(known["root"])
    found = Path(known["images"])
    # Each data set knows its own folder of photographs, which need not be that of another one.
    is_own = found == (root / datasets.images_folder(run.any_spec().dataset)).resolve()
    images = places.images or (None if is_own else found)
    return dataclasses.replace(places, data=root, images=images)


class Opened:
    """The data sets, tokenizers and digests of weights that a command has needed so far.

    Each of them is read once.

    Attributes:
        places: where data and weights lie.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self._datasets: dict[tuple[str, str], ReferDataset] = {}
        self._tokenizers: dict[tuple[str, ...], Tokenizer] = {}
        self._weights: dict[tuple[str, str], str] = {}
        self._checked: set[tuple[str, str, str]] = set()

    def dataset(self, name: str, split_by: str) -> ReferDataset:
        """Return a data set.

        Raises:
            UserError: its name is not known, or its files are missing or damaged.
        """
        if (name, split_by) not in self._datasets:
            self._datasets[name, split_by] = datasets.read(
                name, split_by, self.places.data, self.places.images
            )
        return self._datasets[name, split_by]

    def tokenizer(self, definition: Definition, config: Config, dataset: ReferDataset) -> Tokenizer:
        """Return the tokenizer of a network.

        A pretrained encoder has its published word pieces. A network that starts from scratch has
        pieces that are trained on the training sentences, once for all commands.

        Raises:
            UserError: the published vocabulary is missing and cannot be fetched.
        """
        family, field = definition.text
        published = config.pretrained != "scratch"
        key = (family,) if published else (family, field, dataset.name, dataset.split_by)
        if key in self._tokenizers:
            return self._tokenizers[key]
        if published:
            tokenizer = published_tokenizer(family, self.places.weights)
        else:

            def texts() -> list[str]:
                refs = dataset.refs_of("train")
                return [getattr(sentence, field) for ref in refs for sentence in ref.sentences]

            tokenizer = kept_tokenizer(family, field, dataset.digest(), texts)
        self._tokenizers[key] = tokenizer
        return tokenizer

    def weights_digest(self, definition: Definition, config: Config) -> str:
        """Return the digest of the published weights that a network starts from, or `scratch`.

        Raises:
            UserError: the weights are missing and cannot be fetched.
        """
        if config.pretrained == "scratch":
            return "scratch"
        key = (definition.name, config.pretrained)
        if key not in self._weights:
            weights = methods.get(definition.name).weights.starting_weights(
                config, self.places.weights
            )
            self._weights[key] = pretrained.digest(weights)
        return self._weights[key]

    def data(self, spec: AnySpec) -> ReferDataset:
        """Return the data set of a run.

        Raises:
            UserError: the data at `places` are not those that the run's key names.
        """
        dataset = self.dataset(spec.dataset, spec.split_by)
        self._check(dataset, spec.data_sha256)
        return dataset

    def run(self, spec: RunSpec) -> tuple[ReferDataset, Tokenizer]:
        """Return the data set and the tokenizer of a run.

        Raises:
            UserError: the data at `places`, or the vocabulary made from them, are not those that
                the run's key names.
        """
        dataset = self.data(spec)
        tokenizer = self.tokenizer(methods.definition(spec.method), spec.network, dataset)
        if tokenizer.identity() != spec.tokenizer:
            raise UserError(
                "the vocabulary made from these data is not the run's: install the pinned"
                " `tokenizers`."
            )
        return dataset, tokenizer

    def split(self, spec: AnySpec, name: str) -> tuple[ReferDataset, str]:
        """Return the data set of a reported split, and the split's name in that set.

        Args:
            spec: the run that is reported.
            name: a split of the run's own set, or one of another set as `runs.splits` names it.

        Raises:
            UserError: the data of the set are not those that the run's key names.
        """
        if not (owner := splits.owner(name)):
            return self.data(spec), name
        dataset = self.dataset(*owner[:2])
        self._check(dataset, spec.report_sha256[":".join(owner[:2])])
        return dataset, owner[2]

    def _check(self, dataset: ReferDataset, sha256: str) -> None:
        key = (dataset.name, dataset.split_by, sha256)
        if key in self._checked:
            return
        if dataset.digest() != sha256:
            raise UserError(
                f"the data in {self.places.data} are not those of the run (sha256 {sha256[:12]}):"
                " restore them, or plan the matrix again for the new data."
            )
        self._checked.add(key)


def opened_for(places: Places) -> Callable[[RunDir], Opened]:
    """Return a function that gives the data of a run.

    Runs whose data lie in the same place share what was read.
    """
    shared: dict[Places, Opened] = {}

    def opened(run: RunDir) -> Opened:
        run_places = places_of(run, places)
        if run_places not in shared:
            shared[run_places] = Opened(run_places)
        return shared[run_places]

    return opened
