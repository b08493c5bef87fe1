"""Many weak labellers vote on each row; one answer comes out, or the row is left to people."""

from typing import Annotated, Any

from pydantic import Field

from factory.encoders import Encoder
from factory.labelling.aggregation import AGGREGATORS
from factory.labelling.aggregation.consensus import Consensus, reliability
from factory.labelling.voters import VOTERS, Ballot
from factory.labelling.votes import Votes, side_by_side
from factory.records import Origin, Predictions, Rejection, Rows, TextRow, split, text_dataset
from factory.spec import Label, Model, Plugin, Rule
from factory.store import Stage

NO_AGREEMENT = "no-agreement"
REVIEWED = "reviewed"


class AggregateParams(Model):
    """Who votes, how votes are aggregated, and how sure the answer must be."""

    labels: tuple[Label, ...]
    voters: Annotated[tuple[Plugin, ...], Field(min_length=1)]
    rules: tuple[Rule, ...] = ()
    aggregation: Plugin = Plugin(name="pooled")
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Posterior that the winning label must exceed: above one half, no other label is as likely."""


def aggregate(
    params: AggregateParams,
    *,
    rows: Rows,
    encoder: Encoder,
    student: Predictions | None = None,
    clusters: Predictions | None = None,
    reviewed: Rows | None = None,
    **asked: Rows,
) -> Rows:
    """Give each row the label its voters agree on.

    Args:
        params: Who votes and how.
        rows: Rows that the first teacher labelled.
        encoder: For the nearest description.
        student: Out-of-fold predictions of a student that learned from the teacher's labels.
        clusters: What the clusters of the pool say of its rows.
        reviewed: Rows that people labelled.
        **asked: What the other teachers, or the same one asked in other ways, made of the rows, by title of the voter.

    Returns:
        Kept rows carry the posterior as `label_probs` and its best label. Rejected: `no-agreement`, scored with the
        probability of the best label; `reviewed`, because people have spoken. The report has the reliability of every
        voter, how many labels differ from the teacher's, and, by row id, the votes on what nobody agreed on.
    """
    votes = collect_votes(params, Ballot(params.labels, params.rules, rows, encoder, student, clusters, asked))
    consensus = _consensus(params.aggregation, votes)
    best = consensus.posterior.argmax(axis=1)
    known = set(reviewed.kept["id"]) if reviewed is not None else set()
    answered: list[TextRow] = []
    rejections: dict[int, Rejection] = {}
    open_votes: dict[str, dict[str, str]] = {}
    n_changed = 0
    others = [dict(zip(one.kept["id"], one.kept["replies"], strict=True)) for one in asked.values()]
    for position, row in enumerate(rows.kept):
        label = votes.labels[best[position]]
        probability = float(consensus.posterior[position, best[position]])
        if row["id"] in known:
            rejections[position] = Rejection(REVIEWED)
        elif probability <= params.min_agreement or not votes.is_label[position].any():
            rejections[position] = Rejection(NO_AGREEMENT, round(probability, 6))
            open_votes[row["id"]] = votes.said(position)
        n_changed += position not in rejections and label != row["label"]
        replies = (*row["replies"], *(key for keys in others for key in keys.get(row["id"], ())))
        answered.append(_relabelled(row, label, consensus.posterior[position].tolist(), replies))
    report = {"voters": reliability(votes, consensus), "changed": n_changed, "votes": open_votes}
    result = split(text_dataset(answered), rejections, by=AGGREGATE.name, report=report)
    is_complete = all(one.is_complete for one in (rows, *asked.values()))
    return Rows(result.kept, result.rejected, result.report, is_complete=is_complete)


def collect_votes(params: AggregateParams, ballot: Ballot) -> Votes:
    """Let every voter vote on every row."""
    entries = [(VOTERS[plugin.name], plugin.params) for plugin in params.voters]
    return side_by_side([voter.vote(voter.params(**given), ballot) for voter, given in entries])


def _consensus(plugin: Plugin, votes: Votes) -> Consensus:
    aggregator = AGGREGATORS[plugin.name]
    return aggregator.run(aggregator.params(**plugin.params), votes)


def _relabelled(row: dict[str, Any], label: str, posterior: list[float], replies: tuple[str, ...]) -> TextRow:
    return TextRow(
        text=row["text"],
        label=label,
        origin=Origin(row["origin"]),
        strategy=row["strategy"],
        teacher=row["teacher"],
        parents=tuple(row["parents"]),
        label_probs=tuple(posterior),
        weight=row["weight"],
        replies=replies,
    )


AGGREGATE: Stage[Rows] = Stage("aggregate", 3, AggregateParams, aggregate, Rows)
