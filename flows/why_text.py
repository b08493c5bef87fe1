"""The story of a row for people."""

from rich.console import Console
from rich.text import Text

from flows.why import History, ReplyInfo, Verdict, Why

MARKS = {"kept": "✓", "rejected": "✗", "left-out": "-", "predicted": "?", "learned": "✓"}
STYLES = {"kept": "green", "learned": "bold green", "rejected": "red"}
PROBS_SHOWN = 3


def print_why(why: Why) -> None:
    """Print where a row comes from, its replies, and every verdict; of older builds a line each."""
    console = Console(highlight=False)
    _say(console, why.text or "(an empty text)", style="bold")
    _say(console, f"row {why.id} of {why.task}")
    newest, *older = why.histories
    if not newest.is_newest:
        _say(console, "not in the newest build; what follows is of the newest that has it", style="yellow")
    _print_history(console, newest)
    for history in older:
        _say(console, f"\nalso in the {history.build}: {history.summary}")


def _print_history(console: Console, history: History) -> None:
    made = [history.origin, f"by {history.strategy}" if history.strategy else "", history.teacher]
    _say(console, ", ".join(part for part in made if part))
    if history.parents:
        _say(console, f"made from row {', '.join(history.parents)}")
    _say(console, history.build)
    _say(console, history.summary, style="bold")
    for number, reply in enumerate(history.replies, start=1):
        _print_reply(console, number, reply)
    if history.draws_on:
        keys = ", ".join(key[:12] for key in history.draws_on)
        _say(console, f"\nwhat the first prompt mentions was drawn from {len(history.draws_on)} replies: {keys}")
    _say(console, "\nverdicts", style="bold")
    width = max(len(one.stage) for one in history.verdicts)
    for one in history.verdicts:
        _say(console, f"  {MARKS[one.outcome]} {one.stage:<{width}}  {_in_words(one)}", style=STYLES.get(one.outcome))


def _print_reply(console: Console, number: int, reply: ReplyInfo) -> None:
    _say(console, f"\nreply {number}, asked for by {reply.asked_by}: {reply.key}", style="bold")
    if reply.problem:
        _say(console, f"  {reply.problem}", style="yellow")
        return
    _say(console, f"  {reply.model} at {reply.endpoint}, {reply.written_at}")
    tokens = "tokens not counted"
    if reply.prompt_tokens is not None:
        tokens = f"{reply.prompt_tokens:,} tokens read and {reply.completion_tokens:,} written"
    money = "price unknown" if reply.usd is None else f"${reply.usd:.6f}"
    _say(
        console,
        f"  seed {reply.sample}, temperature {reply.sampling_temperature}, at most {reply.max_tokens} tokens; "
        f"{tokens}, {reply.seconds} s, {money}, ended by {reply.finish_reason or 'nothing said'}",
    )
    for message in reply.messages:
        _say(console, f"  {message['role']}:", style="cyan")
        _say(console, _indented(message["content"]))
    _say(console, "  reply:", style="magenta")
    _say(console, _indented(reply.reply))


def _in_words(one: Verdict) -> str:
    score = "" if one.score is None else f" {one.score:.3g}"
    if one.outcome == "left-out":
        return f"left out: {one.note}"
    if one.outcome == "predicted":
        return f"predicted{_probs(one)}"
    place = f"row {one.position:,} of {one.n_rows:,}, " if one.position and one.n_rows else ""
    label = f"as {one.label}, weight {one.weight:.3g}" if one.weight is not None else f"as {one.label}"
    note = f"; {one.note}" if one.note else ""
    if one.outcome == "rejected":
        return f"rejected: {one.reason}{score}, {label}{_probs(one)}{note}"
    return f"{one.outcome}: {place}{label}{_probs(one)}{note}"


def _probs(one: Verdict) -> str:
    if not one.label_probs:
        return ""
    best = sorted(one.label_probs.items(), key=lambda item: -item[1])[:PROBS_SHOWN]
    more = ", ..." if len(one.label_probs) > PROBS_SHOWN else ""
    return f" ({', '.join(f'{label} {value:.3f}' for label, value in best)}{more})"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _say(console: Console, line: str, *, style: str | None = None) -> None:
    console.print(Text(line, style=style or ""), soft_wrap=True)
