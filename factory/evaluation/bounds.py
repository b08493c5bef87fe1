"""Exact p-values for promises about rates: is it surely below a bound, is one answerer surely not worse than another.

Losses here are counts of rows, so the tails of binomial and trinomial distributions are computed themselves: valid at
every number of rows, and never looser than Hoeffding-Bentkus or an empirical Bernstein bound on the same rows. On 1,000
rows those two cannot tell a loss of half a point from none, because they allow for losses that are not counts.
"""

import numpy as np
from numpy.typing import NDArray

SHARE_OF_DOUBT = 0.001
"""How unlikely the rate of disagreement may be that the paired test leaves out of account; added to its p-value."""
N_RATES = 64
"""Rates of disagreement at which the paired test is computed; between neighbours it hardly moves."""


def rate_p_value(n_events: int, n_rows: int, bound: float) -> float:
    """Test whether an event is rarer than a bound, exactly (Clopper and Pearson, Biometrika 26, 1934).

    Args:
        n_events: Rows with the event.
        n_rows: Independent rows.
        bound: The rate of the null hypothesis, 0 to 1: the event is at least so frequent.

    Returns:
        The p-value, 1 without rows.
    """
    from scipy.stats import binom

    return float(binom.cdf(n_events, n_rows, bound)) if n_rows else 1.0


def rate_upper_bound(n_events: int, n_rows: int, delta: float) -> float:
    """Return the largest rate that `rate_p_value` does not reject at level `delta`, 0 to 1."""
    from scipy.stats import beta

    return float(beta.ppf(1 - delta, n_events + 1, n_rows - n_events)) if n_events < n_rows else 1.0


def paired_p_value(n_worse: int, n_better: int, n_rows: int, margin: float) -> float:
    """Test whether one answerer is less than a margin worse than another on the same rows.

    The null hypothesis is P(worse) - P(better) >= margin. Tables are ordered by how far the difference lies below the
    margin in units of its standard error (Nam, Biometrics 53, 1997, with the one row more that keeps it from being 0),
    so few disagreements count for more than many that cancel out. Given the rate of disagreement, the sum of both
    chances, a table so extreme is likeliest where P(worse) = (rate + margin) / 2. The rate is not known: Berger and
    Boos, "P values maximized over a confidence set for the nuisance parameter", JASA 89 (1994), take the worst of a
    confidence interval and add the chance that the interval is wrong.

    Args:
        n_worse: Rows that only the other has right.
        n_better: Rows that only this one has right.
        n_rows: Independent rows, those on which both are right or wrong included.
        margin: Accuracy that may be lost, 0 to 1.

    Returns:
        The p-value, 1 without rows.
    """
    from scipy.stats import beta

    if not n_rows:
        return 1.0
    n_apart, tail = n_worse + n_better, SHARE_OF_DOUBT / 2
    low = float(beta.ppf(tail, n_apart, n_rows - n_apart + 1)) if n_apart else 0.0
    high = float(beta.ppf(1 - tail, n_apart + 1, n_rows - n_apart)) if n_apart < n_rows else 1.0
    low = max(low, margin)
    if low > high:  # so large a loss needs more disagreement than there can be
        return SHARE_OF_DOUBT
    rates = np.geomspace(max(low, 1e-9), max(high, 1e-9), N_RATES)
    standing = (margin * n_rows - (n_worse - n_better)) / np.sqrt(n_apart + 1)
    return min(1.0, SHARE_OF_DOUBT + float(_chance(standing, n_rows, rates, margin).max()))


def _chance(standing: float, n_rows: int, rates: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """Return the chance of a table that stands at least so well, for each rate of disagreement, shape (n_rates,)."""
    from scipy.stats import binom

    first, last = binom.ppf(1e-9, n_rows, rates[0]), binom.ppf(1 - 1e-9, n_rows, rates[-1])
    n_apart = np.arange(max(0, int(first)), int(last) + 1)
    # Rounded up a little, so that the table that was seen is among those counted.
    most_worse = np.floor((n_apart + margin * n_rows - standing * np.sqrt(n_apart + 1)) / 2 + 1e-9)
    worse_share = np.clip((rates + margin) / (2 * rates), 0, 1)
    apart = binom.pmf(n_apart[None, :], n_rows, rates[:, None])
    at_most = binom.cdf(most_worse[None, :], n_apart[None, :], worse_share[:, None])
    chance: NDArray[np.float64] = (apart * at_most).sum(axis=1)
    return chance
