"""One answer out of many votes.

To add an aggregator: write `aggregation/<name>.py` with a function `(params, votes) -> Consensus`, add a line to
`AGGREGATORS`, run `pytest tests/test_aggregation.py`.
"""

from collections.abc import Mapping

from factory.labelling.aggregation.consensus import Aggregator
from factory.labelling.aggregation.dawid_skene import DawidSkeneParams, solve_dawid_skene
from factory.labelling.aggregation.discounted import DiscountedParams, solve_discounted
from factory.labelling.aggregation.mace import MaceParams, solve_mace
from factory.labelling.aggregation.majority import MajorityVoteParams, count_votes
from factory.labelling.aggregation.pooled import PooledParams, pool_opinions

AGGREGATORS: Mapping[str, Aggregator] = {
    "pooled": Aggregator(PooledParams, pool_opinions),
    "majority": Aggregator(MajorityVoteParams, count_votes),
    "dawid-skene": Aggregator(DawidSkeneParams, solve_dawid_skene),
    "mace": Aggregator(MaceParams, solve_mace),
    "discounted": Aggregator(DiscountedParams, solve_discounted),
}
"""By the name a spec uses."""
