"""The usual ways: SetFit and sentence-transformers in PyTorch, the plain FastAPI pattern around them.

python -m benchmarks.serving.rivals DATA PORT      serves the second of them as textforge serves its model
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.models import N_VALIDATION, Data, read
from factory.encoders import load_encoder

Predict = Callable[[Sequence[str]], list[str]]


def sentence_sklearn(data: Data) -> tuple[Any, Any, Predict]:
    """sentence-transformers and logistic regression, as in every tutorial."""
    from sklearn.linear_model import LogisticRegression

    body = _body()
    rows = data.train[N_VALIDATION:]
    head = LogisticRegression(max_iter=1000, C=10.0)
    head.fit(body.encode([row.text for row in rows], batch_size=32), [row.label for row in rows])

    def predict(texts: Sequence[str]) -> list[str]:
        return list(head.predict(body.encode(list(texts), batch_size=32, show_progress_bar=False)))

    return body, head, predict


def setfit(body: Any, head: Any) -> Predict:
    """Return SetFit's own prediction, with a head fitted to frozen vectors: its fine-tuning changes no speed."""
    from setfit import SetFitModel

    model = SetFitModel(model_body=body, model_head=head)

    def predict(texts: Sequence[str]) -> list[str]:
        return [str(label) for label in np.asarray(model.predict(list(texts), batch_size=32, as_numpy=True))]

    return predict


def _body() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(load_encoder().folder), device="cpu", local_files_only=True)


def main() -> None:
    """Serve one text a request: load at import, predict in the handler."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    _, _, predict = sentence_sklearn(read(folder, 500))
    app = FastAPI()

    class Item(BaseModel):
        text: str

    @app.post("/predict")
    def answer(item: Item) -> dict[str, str]:
        return {"label": predict([item.text])[0]}

    print("ready", flush=True)
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main()
