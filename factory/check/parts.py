"""Parts of a spec that must fit each other: rules and labels, voters and teachers, rules and columns."""

from collections.abc import Sequence

from factory.check.reading import plugins_in, read_section, value_at
from factory.errors import Problem
from factory.spec import Kind, Rule
from factory.spec_data import ORDERED_FILE
from factory.spec_source import KeyPath, Source
from factory.spec_table import Column
from factory.tables.rules import RuleError, parse_rule


def rule_problems(source: Source, labels: Sequence[str] | None) -> list[Problem]:
    """Check the labels and patterns of rules, and that somebody goes by them."""
    from factory.labelling.rules import wrong_rules

    section: KeyPath = ("labelling", "rules")
    rules = read_section(source, section, tuple[Rule, ...]) or ()
    found = wrong_rules(rules, labels or [rule.label for rule in rules])
    problems = [source.problem((*section, *path), message) for path, message in found]
    voters = {plugin.name for _, plugin in plugins_in(source, ("labelling", "voters"))}
    has_voter = "rules" in voters
    if rules and not has_voter:
        message = "nobody goes by them: name the voter too, such as voters: [teacher, clusters, rules]"
        problems.append(source.problem(section, message))
    if has_voter and not value_at(source, section):
        problems.append(source.problem(("labelling", "voters"), "the voter `rules` needs labelling.rules"))
    learned = {plugin.name for _, plugin in plugins_in(source, ("labelling", "aggregation"))} or {"pooled"}
    if voters == {"rules"} and learned & {"dawid-skene", "discounted"}:
        message = f"{min(learned)} learns nothing from rules alone: add a voter, or take mace or majority"
        problems.append(source.problem(("labelling", "aggregation"), message))
    soft: KeyPath = ("labelling", "soft_labels")
    if voters == {"rules"} and learned == {"mace"} and value_at(source, soft) is True:
        message = "of rules alone, mace finds the label but stays near one half: its distributions teach nothing"
        problems.append(source.problem(soft, message))
    return problems


def voter_problems(source: Source) -> list[Problem]:
    """Check that voters ask teachers who are there, and that somebody asks each of those."""
    from factory.labelling.voters import wrong_teachers

    declared = value_at(source, ("teachers",))
    voters = plugins_in(source, ("labelling", "voters"))
    has_pool = value_at(source, ("data", "pool")) is not None
    has_pool &= value_at(source, ("labelling", "label_pool")) != 0
    has_pool |= value_at(source, ("data", "ordered")) is not None or (source.file.parent / ORDERED_FILE).exists()
    found = wrong_teachers(voters, declared if isinstance(declared, dict) else (), has_pool=has_pool)
    return [source.problem(source.existing(path), message) for path, message in found]


def table_problems(source: Source, kind: Kind) -> list[Problem]:
    """Check what only tables have, and what they cannot have."""
    if not kind.is_table:
        return []
    cascade = [source.problem(("cascade",), "is for texts: leave it out")] if ("cascade",) in source.lines else []
    strategies: KeyPath = ("synthesis", "strategies")
    has_rows = any(value_at(source, ("data", key)) for key in ("train", "seeds"))
    if value_at(source, strategies) and not has_rows:
        cascade.append(source.problem(strategies, "rows are written like real ones: name some under data.train"))
    return cascade + _column_rule_problems(source)


def _column_rule_problems(source: Source) -> list[Problem]:
    """Check the rules between the columns of a table, where the columns themselves are fine."""
    rules = read_section(source, ("rules",), tuple[str, ...])
    columns = read_section(source, ("columns",), tuple[Column, ...])
    left_out = read_section(source, ("leave_out",), tuple[str, ...]) or ()
    problems = []
    for position, rule in enumerate(rules or ()):
        try:
            parse_rule(rule, [column for column in columns or () if column.name not in left_out])
        except RuleError as error:
            problems.append(source.problem(("rules", position), str(error)))
    return problems if columns else []
