"""One answer out of many votes.

To add an aggregator: write `aggregation/<name>.py` with a function `(params, votes) -> Consensus`, add a line to
`AGGREGATORS`, run `pytest tests/test_aggregation.py`.
"""

from collections.abc import Mapping

from factory.labelling.aggregation.consensus import Aggregator
from factory.labelling.aggregation.dawid_skene import DawidSkeneParams, dawid_skene
from factory.labelling.aggregation.discounted import DiscountedParams, discounted
from factory.labelling.aggregation.mace import MaceParams, mace
from factory.labelling.aggregation.majority import MajorityVoteParams, majority_vote

AGGREGATORS: Mapping[str, Aggregator] = {
    "majority": Aggregator(MajorityVoteParams, majority_vote),
    "dawid-skene": Aggregator(DawidSkeneParams, dawid_skene),
    "mace": Aggregator(MaceParams, mace),
    "discounted": Aggregator(DiscountedParams, discounted),
}
"""By the name a spec uses."""
