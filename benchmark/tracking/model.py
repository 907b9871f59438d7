"""The model that MLflow loads: a network of the suite that segments photographs.

MLflow runs this file to make the model ("models from code"), so nothing is pickled. What it needs
are the spec and the weights of a run, the vocabulary where the run trained its own, and this
package:

    model = mlflow.pyfunc.load_model("models:/lavt-tiny-maskris-refshapes@best")
    (mask,) = model.predict({"image": "street.jpg", "sentence": "the bus on the left"})["mask"]
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

VOCABULARY = "vocabulary.json"


class Segmenter(PythonModel):
    """Predicts the mask of what a sentence names in a photograph."""

    def load_context(self, context: PythonModelContext) -> None:
        """Build the network with the weights of the run's chosen epoch.

        Raises:
            UserError: the vocabulary of a published encoder cannot be had.
        """
        # The sync logs models and must not import torch.
        import methods
        from benchmark.base.pretrained import Source
        from benchmark.data.tokenizers import from_text, published_tokenizer
        from benchmark.evaluation.devices import pick_device
        from benchmark.evaluation.inference import Loaded, build_method, load_best
        from benchmark.runs.rundir import RunDir

        run = RunDir(Path(context.artifacts["run"]))
        spec = run.spec()
        vocabulary = run.path / VOCABULARY
        if vocabulary.exists():
            tokenizer = from_text(vocabulary.read_text())
        else:
            family, _ = methods.definition(spec.method).text
            tokenizer = published_tokenizer(family, Source())
        device = pick_device("auto")
        method = build_method(spec, tokenizer)
        load_best(run, method)
        self.loaded = Loaded(spec.key, method.to(device).eval(), None, tokenizer, device)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the masks of photographs, as a column `mask` of bool (height, width).

        Args:
            context: of the model, which is loaded already.
            model_input: a table with the columns `image`, which holds paths, and `sentence`.
            params: none are known.

        Raises:
            UserError: a photograph is missing or damaged, or a sentence is empty.
        """
        from benchmark.evaluation.inference import segment

        rows = pd.DataFrame(model_input)
        pairs = zip(rows["image"], rows["sentence"], strict=True)
        masks = [segment(self.loaded, Path(path), sentence)[1] for path, sentence in pairs]
        return pd.DataFrame({"mask": masks})


mlflow.models.set_model(Segmenter())
