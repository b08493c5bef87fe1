"""What the label descriptions say of a pool, settled by how its texts lie together.

A description is a rough guess at where the texts of its label are. Around each guess the pool is denser than between
them, so a mixture of Gaussians that starts from the guesses moves to where the texts are. It costs no teacher and no
label: Wang, Mekala and Shang, "X-Class: Text Classification with Extremely Weak Supervision", NAACL 2021,
arXiv:2010.12794. That the descriptions keep a say in each step, so that a component cannot walk away from its label, is
from Zanella, Gérin and Ben Ayed, "Boosting Vision-Language Models with Transduction", NeurIPS 2024, arXiv:2406.01837.
What it is worth, and why so few dimensions and steps, and so much doubt: docs/log.md, 2026-11-28.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.encoders import Encoder
from factory.encoders.nearest import ENCODE_AT_ONCE, nearest_of
from factory.events import Progressed, emit
from factory.records import Predictions, Rows
from factory.spec import Label, Model
from factory.store import Stage

ROWS_PER_DIMENSION = 12
"""Of the pool at least, or the covariance is that of chance."""
MOST_FITTED = 20_000
"""Rows the mixture is fitted on, drawn at random; it answers all of them."""
RIDGE = 1e-3
"""Added to the diagonal of the covariance, in units of the mean variance of a dimension."""
LEAST = 1e-9
"""Probability below which a description rules nothing out any further."""
DOUBT = 1e-6
"""Share of every answer that goes to all labels alike: a posterior of 0 would be beyond any other voter."""

Vectors = NDArray[np.float64]


class ClustersParams(Model):
    """How the mixture is fitted."""

    labels: tuple[Label, ...]
    scale: Annotated[float, Field(gt=0)] = 20.0
    """Factor on the cosines to the descriptions before the softmax."""
    n_dimensions: Annotated[int, Field(ge=1)] = 32
    """Principal components at most."""
    n_steps: Annotated[int, Field(ge=1)] = 5
    """Of expectation and maximisation. Few: with many, components leave their labels where these are no subjects."""
    temperature: Annotated[float, Field(gt=0)] = 2.5
    """Divides the logarithms of what comes out: as many dimensions that depend on each other are far surer than right,
    and other voters would have no say beside them (0.92 on average on questions, of which half were right)."""
    seed: int = 0


def cluster_pool(params: ClustersParams, *, rows: Rows, encoder: Encoder) -> Predictions:
    """Answer each row of a pool with the mixture component it belongs to, one a label.

    Args:
        params: Labels with descriptions, and how to fit.
        rows: The pool; its labels, if any, are not read. A text that is also in the holdout is fitted like any other,
            without its label; no holdout row is trained on (`leakage`).
        encoder: Gives unit vectors of texts and descriptions.

    Returns:
        Posteriors of the components times what the descriptions say, tempered, above 0, rows sum to 1.
        Which rows a large pool is fitted on is drawn with the seed; nothing else is random.
    """
    texts = rows.kept["text"][:]
    names = tuple(label.name for label in params.labels)
    if not texts:
        return Predictions(labels=names, ids=(), probs=np.zeros((0, len(names))))
    anchors = encoder.encode([label.phrase for label in params.labels]).astype(np.float64)
    order = np.random.default_rng(params.seed).permutation(len(texts))[:MOST_FITTED]
    vectors = _encode([texts[position] for position in order], encoder)
    mean = vectors.mean(axis=0)
    n_dimensions = max(1, min(params.n_dimensions, len(vectors) // ROWS_PER_DIMENSION, vectors.shape[1]))
    axes = np.linalg.eigh(np.cov(vectors, rowvar=False, bias=True))[1][:, -n_dimensions:]
    evidence = np.log(nearest_of(vectors, anchors, scale=params.scale) + LEAST)
    mixture = fit_mixture((vectors - mean) @ axes, evidence, n_steps=params.n_steps)
    probs = np.zeros((len(texts), len(names)))
    for start in range(0, len(texts), ENCODE_AT_ONCE):
        block = slice(start, start + ENCODE_AT_ONCE)
        vectors = encoder.encode(texts[block]).astype(np.float64)
        evidence = np.log(nearest_of(vectors, anchors, scale=params.scale) + LEAST)
        found = mixture.posterior((vectors - mean) @ axes, evidence, temperature=params.temperature)
        probs[block] = (1 - DOUBT) * found + DOUBT / len(names)
        emit(Progressed(CLUSTERS.name, min(block.stop, len(texts)), len(texts), "texts answered"))
    return Predictions(labels=names, ids=tuple(rows.kept["id"]), probs=probs)


def _encode(texts: list[str], encoder: Encoder) -> Vectors:
    blocks = []
    for start in range(0, len(texts), ENCODE_AT_ONCE):
        blocks.append(encoder.encode(texts[start : start + ENCODE_AT_ONCE]).astype(np.float64))
        emit(Progressed(CLUSTERS.name, min(start + ENCODE_AT_ONCE, len(texts)), len(texts), "texts encoded"))
    return np.concatenate(blocks)


class Mixture:
    """Gaussians with one covariance: between two of them the border is a plane, as for a linear student."""

    def __init__(self, points: Vectors, posterior: Vectors) -> None:
        """Fit to points whose components are known with some probability.

        Args:
            points: Shape (n, n_dimensions).
            posterior: Shape (n, n_components), rows sum to 1.
        """
        n, n_dimensions = points.shape
        weights = posterior.sum(axis=0) + LEAST
        self.means: Vectors = posterior.T @ points / weights[:, None]
        covariance = (points.T @ points - (self.means.T * weights) @ self.means) / n
        ridge = RIDGE * np.trace(covariance) / n_dimensions + LEAST
        self.precision: Vectors = np.linalg.inv(covariance + ridge * np.eye(n_dimensions))
        self.log_weights: Vectors = np.log(weights / weights.sum())

    def posterior(self, points: Vectors, evidence: Vectors, *, temperature: float = 1.0) -> Vectors:
        """Return the probability of each component given a point and the logarithm of what else is known of it."""
        from scipy.special import softmax

        to_means = self.means @ self.precision
        log_density = points @ to_means.T - 0.5 * (to_means * self.means).sum(axis=1)
        known: Vectors = softmax((log_density + self.log_weights + evidence) / temperature, axis=1)
        return known


def fit_mixture(points: Vectors, evidence: Vectors, *, n_steps: int) -> Mixture:
    """Fit a mixture that starts from, and keeps to, what is known of each point.

    Args:
        points: Shape (n, n_dimensions), centred.
        evidence: Logarithm of the probability of each component, shape (n, n_components).
        n_steps: Of expectation and maximisation.

    Returns:
        The mixture after the last maximisation.
    """
    from scipy.special import softmax

    mixture = Mixture(points, softmax(evidence, axis=1))
    for _ in range(n_steps - 1):
        mixture = Mixture(points, mixture.posterior(points, evidence))
    return mixture


CLUSTERS: Stage[Predictions] = Stage("clusters", 2, ClustersParams, cluster_pool, Predictions)
