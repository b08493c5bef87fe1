"""From the log-probabilities of a constrained reply to a distribution over labels.

The reply is the JSON text of one label. At each token the labels that still fit part ways: the probability the model
gave to each way, relative to the ways that lead to a label, multiplies into the labels behind it. The reply follows
one way to its end; labels that left together on another way share its mass evenly, because the model was never
asked to tell them apart.
"""

import json
import math
from collections.abc import Sequence
from itertools import dropwhile

from factory.teacher import TokenLogprob

UNSEEN = 1e-6
"""Mass of a label that no reported alternative leads to, before normalisation."""
QUOTE = '"'


def written(label: str) -> str:
    """Return the text of a label in a reply: JSON, letters as they are."""
    return json.dumps(label, ensure_ascii=False)


def label_distribution(logprobs: Sequence[TokenLogprob], labels: Sequence[str]) -> tuple[float, ...] | None:
    """Compute the probability of each label from one reply.

    Args:
        logprobs: Tokens of the reply with the alternatives considered at each, natural logarithms.
        labels: Label names in spec order; the reply is the JSON text of one of them.

    Returns:
        Probabilities in the order of `labels`, sum 1; None when there is nothing to compute them from.
    """
    spelled = {label: written(label) for label in labels}
    mass = dict.fromkeys(labels, 0.0)
    alive, share, position = list(labels), 1.0, 0
    # A server may strip what came before the answer, such as a code fence, from the text but not from the tokens.
    for token in dropwhile(lambda token: not token.token.startswith(QUOTE), logprobs):
        chosen = [label for label in alive if spelled[label].startswith(token.token, position)]
        gained = _share_out(_alternatives(token), {label: spelled[label][position:] for label in alive})
        total = math.fsum(gained.values())
        if not chosen or total <= 0:
            break
        for label in alive:
            if label not in chosen:
                mass[label] = share * gained[label] / total
        share *= math.fsum(gained[label] for label in chosen) / total
        alive, position = chosen, position + len(token.token)
        if len(alive) == 1:
            break
    if len(alive) == len(labels):
        return None
    for label in alive:
        mass[label] = share / len(alive)
    floored = [max(mass[label], UNSEEN) for label in labels]
    total = math.fsum(floored)
    return tuple(value / total for value in floored)


def _alternatives(token: TokenLogprob) -> dict[str, float]:
    """Return the probability of each alternative, the chosen token included; tokens without text lead nowhere."""
    logprobs = {**dict(token.top), token.token: token.logprob}
    return {text: math.exp(logprob) for text, logprob in logprobs.items() if text}


def _share_out(alternatives: dict[str, float], rests: dict[str, str]) -> dict[str, float]:
    """Give each alternative's mass, in equal parts, to the labels whose remaining text begins with it."""
    gained = dict.fromkeys(rests, 0.0)
    for text, probability in alternatives.items():
        behind = [label for label, rest in rests.items() if rest.startswith(text)]
        for label in behind:
            gained[label] += probability / len(behind)
    return gained
