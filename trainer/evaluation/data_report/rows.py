"""The tables of the report as rows of text, the same in the terminal and on the page."""

from collections.abc import Iterator
from dataclasses import dataclass

from trainer.data.description import Description, Spread

_MOST_LANGUAGES = 12


@dataclass(frozen=True, slots=True)
class Block:
    """One table: columns marked in ``numbers`` are right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]
    note: str = ""


def overview(facts: Description) -> list[tuple[str, str]]:
    """Key facts of the dataset, as (label, text)."""
    first, last = facts.span
    start = facts.stages[0]
    return [
        ("dataset", facts.dataset),
        ("made from", facts.origin),
        ("licence", facts.licence or "none given"),
        ("directory", facts.directory),
        ("fingerprint", facts.fingerprint),
        ("interactions", f"{start.rows:,} of {start.users:,} users with {start.items:,} of {facts.catalogue:,} items"),
        ("time", f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {(last - first).days:,} days"),
        ("density", f"{100 * facts.density:.3g} % of all pairs of a user and an item"),
    ]


def blocks(facts: Description) -> Iterator[Block]:
    """The tables in reading order."""
    yield _tables(facts)
    yield Block(
        "What remains after each setting",
        ("", "setting", "users", "items", "interactions"),
        tuple(
            (stage.name, stage.setting, f"{stage.users:,}", f"{stage.items:,}", f"{stage.rows:,}")
            for stage in facts.stages
        ),
        (False, False, True, True, True),
        "Positives by part: " + ", ".join(f"{name} {count:,}" for name, count in facts.parts.items())
        if facts.parts
        else facts.fault,
    )
    yield Block(
        "Events",
        ("event", "rows", "with a value", "positive"),
        tuple((e.event, f"{e.rows:,}", f"{e.with_value:,}", f"{e.positive:,}") for e in facts.events),
        (False, True, True, True),
    )
    yield _languages(facts)
    yield Block(
        "Interactions per user and per item",
        ("per", "minimum", "median", "mean", "90th percentile", "maximum"),
        (("user", *_spread(facts.per_user)), ("item with any", *_spread(facts.per_item))),
        (False, True, True, True, True, True),
        f"Items without any: {facts.never:,}. Rows that repeat a user and item: {facts.repeated_pairs:,}, of which in "
        f"every column: {facts.repeated_rows:,}.",
    )
    if facts.repeated_titles:
        yield Block(
            "Titles shared by several items",
            ("title", "items"),
            tuple((title, f"{count:,}") for title, count in facts.repeated_titles),
            (False, True),
        )
    yield Block(
        "Columns and their use by the model",
        ("table", "column", "type", "filled", "use", ""),
        tuple((c.table, c.name, c.type, f"{100 * c.filled:.3g} %", c.use, c.reason) for c in facts.columns)
        + tuple(
            (table.name, name, "", "", "not read", f"of {table.file}; not mapped")
            for table in facts.tables
            for name in table.unused
        ),
        (False, False, False, True, False, False),
    )


def _tables(facts: Description) -> Block:
    rows = []
    for table in facts.tables:
        read = "" if table.read is None else f"{table.read:,}"
        dropped = "; ".join(f"{count:,}: {reason}" for reason, count in table.dropped.items())
        rows.append((table.name, table.file, read, dropped or "0", f"{table.written:,}"))
    return Block(
        "Rows",
        ("table", "file", "read", "left out", "written"),
        tuple(rows),
        (False, False, True, False, True),
        "\n".join(f"{table.file or table.name}, {note}" for table in facts.tables for note in table.notes),
    )


def _languages(facts: Description) -> Block:
    shown = list(facts.languages.items())[:_MOST_LANGUAGES]
    rest = sum(facts.languages.values()) - sum(count for _, count in shown)
    rows = [(tag, f"{count:,}", f"{100 * count / facts.catalogue:.3g} %") for tag, count in shown]
    if rest:
        rows.append((f"{len(facts.languages) - len(shown)} more", f"{rest:,}", f"{100 * rest / facts.catalogue:.3g} %"))
    how = facts.detection
    note = ""
    if how:
        note = (
            f"From a column {how['from_column']:,}, from the setting `language` {how['from_setting']:,}, detected "
            f"{how['detected']:,}, of these doubtful {how['doubtful']:,}."
        )
        examples = "; ".join(f"{title} ({tag}, {probability:.0%})" for title, tag, probability in how["examples"])
        if examples:
            note += f"\nMost doubtful: {examples}."
    return Block("Languages of items", ("language", "items", "share"), tuple(rows), (False, True, True), note)


def _spread(spread: Spread) -> tuple[str, ...]:
    return (
        f"{min(spread.counts, default=0):,}",
        f"{spread.quantile(0.5):,}",
        f"{spread.mean:,.1f}",
        f"{spread.quantile(0.9):,}",
        f"{max(spread.counts, default=0):,}",
    )
