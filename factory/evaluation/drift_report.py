"""The page about drift: a self-contained HTML file, no network, no script."""

from pathlib import Path

import numpy as np

from factory.evaluation.drift import Drift
from factory.evaluation.order import Order

TEMPLATE = Path(__file__).with_name("drift.html.jinja")
N_BARS = 10


def render_drift(drift: Drift, order: Order, *, title: str, reference: str) -> str:
    """Write the page.

    Args:
        drift: What was found.
        order: What to bring.
        title: Of the page.
        reference: What production was compared with.

    Returns:
        A complete HTML document, light and dark; of texts it has only points.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sides = [[value for value, is_now in drift.top if is_now is now] for now in (False, True)]
    counts = [np.histogram(side, bins=N_BARS, range=(0, 1))[0] / max(len(side), 1) for side in sides]
    return environment.get_template(TEMPLATE.name).render(
        drift=drift,
        order=order,
        title=title,
        reference=reference,
        bars=list(zip(*(side.tolist() for side in counts), strict=True)),
    )
