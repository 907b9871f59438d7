"""What an exported checkpoint says of its weights, so that they mean the same everywhere.

Numbers come from weights, and from how sentences and images become tensors. A run that trains its
own word pieces has them in no other file, and the same sentence has other ids beside another
training split.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Json

import methods
from benchmark.base.errors import UserError, choose
from benchmark.base.files import read_model
from benchmark.data import tokenizers
from benchmark.data.tokenizers import Tokenizer
from benchmark.runs.execution import Places
from benchmark.runs.opened import Opened, places_of
from benchmark.runs.rundir import RunDir
from methods.config import Config, DataNeeds, Definition, Precision


class Card(BaseModel):
    """What a checkpoint file says of the run that its weights come from.

    Attributes:
        run: the key of the run.
        method: the method.
        variant: its size.
        revision: the revision of the method's code for this variant and precision.
        precision: the precision of the recipe, which is also that of evaluation.
        dataset: the data set that the run was trained on. It can decide the sentence length.
        network: the configuration of the network, as `spec.yaml` has it.
        input: what the network is fed, as `DataNeeds` has it: size, normalization, length.
        tokenizer: the identity of the word pieces.
        vocabulary: the word pieces themselves, as `tokenizers.as_text` writes them, where the run
            trained its own.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    run: str
    method: str
    variant: str
    revision: int
    precision: Precision
    dataset: str
    network: Json[dict[str, Any]]
    input: Json[dict[str, Any]]
    tokenizer: str
    vocabulary: str | None = None

    def notes(self) -> dict[str, str]:
        """Return the card as text for each of its fields, from which `read` makes it again."""
        values = self.model_dump(round_trip=True, exclude_none=True)
        return {name: str(value) for name, value in values.items()}

    def definition(self, method: str | None, variant: str | None, source: str) -> Definition:
        """Return the definition of the card's method.

        Args:
            method: what the user calls it, or None.
            variant: what the user calls its size, or None.
            source: what messages call the file.

        Raises:
            UserError: the user says something else, or this version computes something else.
        """
        said = (method or self.method, variant or self.variant)
        if said != (self.method, self.variant):
            raise UserError(
                f"{source} is of {self.method} {self.variant}, and not of {' '.join(said)}: leave"
                " --method and --variant out."
            )
        found = methods.definition(self.method)
        choose(self.variant, found.variants, f"{source}: variant of {self.method}")
        check_revision(self.revision, found, self.variant, self.precision, source)
        return found

    def check_network(self, config: Config, source: str) -> None:
        """Check that a network is built as the run's was.

        Raises:
            UserError: a setting differs.
        """
        _check("network", self.network, config.model_dump(mode="json"), source)

    def check_input(self, needs: DataNeeds, source: str) -> None:
        """Check that a network is fed as the run's was.

        Raises:
            UserError: a setting differs.
        """
        _check("input", self.input, _plain(needs), source)

    def own_tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer that travels with the weights, or None where it is a published one.

        Raises:
            UserError: it is damaged.
        """
        return tokenizers.from_text(self.vocabulary) if self.vocabulary is not None else None

    def check_tokenizer(self, tokenizer: Tokenizer, source: str) -> None:
        """Check that word pieces are those that the run was trained with.

        Raises:
            UserError: they are others.
        """
        if tokenizer.identity() != self.tokenizer:
            raise UserError(
                f"{source} was trained with other word pieces ({self.tokenizer}) than it is"
                f" evaluated with ({tokenizer.identity()}): export the run again, with the pinned"
                " libraries."
            )


def read(notes: Any, source: str) -> Card | None:
    """Return the card in the notes of a file, or None where it has none.

    Args:
        notes: what the file says beside its weights. Files of other people say other things.
        source: what messages call the file.

    Raises:
        UserError: there is a card, and it is damaged.
    """
    # Exports of earlier versions name their run and nothing that numbers need.
    if not isinstance(notes, Mapping) or not {"run", "network", "input"} <= notes.keys():
        return None
    return read_model(Card, dict(notes), f"{source}, notes beside its weights")


def of_run(run: RunDir, places: Places) -> Card:
    """Return the card of a run.

    Args:
        run: the run.
        places: where its data lie, which are needed where the run trained its own word pieces.

    Raises:
        UserError: the word pieces have to be made again, and the data are not where they were.
    """
    spec = run.spec()
    vocabulary = None
    if spec.network.pretrained == "scratch":
        _, tokenizer = Opened(places_of(run, places)).run(spec)
        vocabulary = tokenizers.as_text(tokenizer)
    with torch.device("meta"):
        # What it is fed does not depend on the number of its word pieces.
        needs = methods.get(spec.method)(spec.network, vocabulary_size=100).needs
    return Card(
        run=run.key,
        method=spec.method,
        variant=spec.variant,
        revision=spec.method_revision,
        precision=spec.recipe.precision,
        dataset=spec.dataset,
        network=spec.network.model_dump_json(),
        input=json.dumps(_plain(needs)),
        tokenizer=spec.tokenizer,
        vocabulary=vocabulary,
    )


def _plain(needs: DataNeeds) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(needs)))


def _check(what: str, said: Mapping[str, Any], here: Mapping[str, Any], source: str) -> None:
    for name, value in said.items():
        if name not in here or here[name] != value:
            raise UserError(
                f"{source} was trained with {what}.{name} = {value}, and this version has"
                f" {here.get(name, 'no such setting')}: evaluate it with the version that wrote it."
            )


def check_revision(
    revision: int, definition: Definition, variant: str, precision: str, source: str
) -> None:
    """Check that trained weights are of the revision that the code computes.

    Args:
        revision: the one that the weights were trained with.
        definition: the method, as this version of the code has it.
        variant: its variant.
        precision: what it computes in.
        source: what the message calls the run or the file.

    Raises:
        UserError: it is another one.
    """
    here = definition.revision(variant, precision)
    if here != revision:
        raise UserError(
            f"{source} is of revision {revision} of {definition.name} {variant}, and this version"
            f" has revision {here}, whose numbers are others: evaluate it with the version that"
            " wrote it."
        )
