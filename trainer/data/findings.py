"""What to know about a dataset before training on it, in sentences with numbers and settings."""

from collections.abc import Iterator

from trainer.data.description import Description

_FEW_COLUMNS = 8


def findings(facts: Description) -> list[str]:
    """Sentences, most important first; each names the responsible setting or what to do."""
    return [*_lost(facts), *_split(facts), *_ids(facts), *_columns(facts), *_texts(facts), *_repeats(facts)]


def _lost(facts: Description) -> Iterator[str]:
    start, positive, _, enough = facts.stages[:4]
    if facts.fault:
        yield facts.fault
    for table in facts.tables:
        for reason, count in table.dropped.items():
            yield f"{count:,} rows of {table.name} were left out: {reason}."
    if start.users > positive.users:
        yield (
            f"{_of(start.users - positive.users, start.users)} users have no positive: none of their queries is "
            f"trained or tested (`{positive.setting}`)."
        )
    if positive.users > enough.users:
        lost = positive.users - enough.users
        by_kept = {kept: n for n, kept in facts.kept_by_least.items() if n < facts.least and kept > enough.users}
        others = [f"{n} would keep {kept:,}" for kept, n in by_kept.items()]
        hint = f" {'; '.join(others)}." if others else ""
        yield (
            f"{_of(lost, positive.users)} users with a positive have fewer than {facts.least} and are dropped "
            f"(`{enough.setting}`).{hint}"
        )
    ignored = [f"`{event.event}` ({event.rows:,})" for event in facts.events if event.positive == 0]
    if ignored:
        yield f"Events that never count as positive (`data.positives`): {', '.join(ignored)}."


def _split(facts: Description) -> Iterator[str]:
    for part, wanted in (("validation", "early stopping"), ("test", "evaluate")):
        if facts.parts and not facts.parts[part]:
            yield f"The {part} part is empty: {wanted} has nothing to measure on (`data.split.{part}_fraction`)."
    if facts.cold:
        yield f"{facts.cold:,} items are held out with all their positives (`data.split.cold_items`)."
    items, rows = facts.new_in_test
    if items:
        yield (
            f"{items:,} items of the test part ({_of(rows, facts.parts['test'])} of its positives) have no earlier "
            "positive: they can only be found by content."
        )
    if facts.never:
        yield f"{_of(facts.never, facts.catalogue)} items have no interaction: they are placed by content alone."
    if facts.first == facts.last:
        yield "All interactions have the same time: their order is unknown, and splits use item ids instead."
    elif facts.whole_days:
        yield "All times are whole days: a user's interactions within one day are ordered by item id."


def _ids(facts: Description) -> Iterator[str]:
    for place, found in facts.look_alikes.items():
        for each in found:
            yield f"{place[0].upper()}{place[1:]}: {each}. Remedy: {each.remedy}."
    if facts.profiles is not None and facts.profiles < facts.stages[0].users:
        missing = facts.stages[0].users - facts.profiles
        yield f"{_of(missing, facts.stages[0].users)} users of the interactions are not in the users table."


def _columns(facts: Description) -> Iterator[str]:
    for table in facts.tables:
        if table.unused:
            why = f"The model can't use additional columns of {table.name}."
            if table.name == "items":
                why = "Only numbers and vectors can be used, if `data.source.columns.items` lists them."
            yield f"{table.file or table.name}: columns not used by any model: {_some(table.unused)}. {why}"
    unread = [f"{each.table}.{each.name}" for each in facts.columns if each.use == "unused" and each.filled > 0.0]
    if unread:
        yield f"Columns of the dataset that the model does not read: {_some(unread)}."
    empty = [f"{each.table}.{each.name}" for each in facts.columns if each.filled == 0.0]
    if empty:
        yield f"Empty columns: {_some(empty)}."


def _texts(facts: Description) -> Iterator[str]:
    detected, doubtful = facts.detection.get("detected", 0), facts.detection.get("doubtful", 0)
    if doubtful:
        yield (
            f"The languages of {_of(doubtful, detected)} items were detected with low confidence. Give a column "
            "`language`, or `data.source.language` if all are in one language."
        )
    if unknown := facts.languages.get("und", 0):
        yield f"{_of(unknown, facts.catalogue)} items have no known language (`und`)."
    if facts.without_title:
        yield f"{_of(facts.without_title, facts.catalogue)} items have no title."
    if facts.without_category:
        yield f"{_of(facts.without_category, facts.catalogue)} items have no category."


def _repeats(facts: Description) -> Iterator[str]:
    if facts.repeated_rows:
        yield f"{facts.repeated_rows:,} rows of the interactions repeat an earlier row in every column."
    if facts.repeated_pairs > facts.repeated_rows:
        yield (
            f"{facts.repeated_pairs:,} rows repeat a user and item; of positive ones the first counts, the others are "
            "history."
        )
    if facts.repeated_title_items:
        title, count = facts.repeated_titles[0]
        yield f"{facts.repeated_title_items:,} items share their title with another; {count:,} are titled {title!r}."


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def _some(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:_FEW_COLUMNS])
    return shown if len(names) <= _FEW_COLUMNS else f"{shown} and {len(names) - _FEW_COLUMNS} more"
