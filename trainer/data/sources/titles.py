"""Titles with extra parts: ``Usual Suspects, The (1995)`` has a trailing article and a year."""

import re
from typing import Final

import polars as pl

from trainer.data.faults import Origin

FILM: Final = "film"
_ARTICLES: Final = "The|A|An|La|Le|Les|L'|Il|Lo|I|Gli|Der|Die|Das|Den|Det|El|Los|Las|O|Os|As|Een|Ein|Eine|Un|Une|Una"
_INVERTED: Final = re.compile(rf"^(?P<title>.+), (?P<article>{_ARTICLES})$")
_YEAR: Final = re.compile(r"\s*\((\d{4})\)(\s*\([A-Z]+\))?\s*$")
# Polars' regular expressions, for counting without a Python call per title.
_ENDS_IN_YEAR: Final = r"\((?:18|19|20)\d{2}\)\s*$"
_ARTICLE_BEHIND: Final = rf", (?:{_ARTICLES})(?:\s*\(|$)"
# A catalogue with fewer such titles is considered to have no pattern.
_SHARE: Final = 0.2


def natural_title(title: str) -> str:
    """Puts the article back in front: ``Godfather, The`` -> ``The Godfather``.

    Sentence encoders know titles in natural word order, not as they are catalogued. Titles in brackets are treated
    the same way: ``Hate (Haine, La)`` -> ``Hate (La Haine)``.
    """
    outside, *inside = re.split(r" \(", " ".join(title.split()))
    parts = [_uninvert(outside)]
    for part in inside:
        head, bracket, rest = part.partition(")")
        parts.append(_uninvert(head) + bracket + rest)
    return " (".join(parts)


def title_and_year(title: str) -> tuple[str, int | None]:
    """``Toy Story (1995)`` -> (``Toy Story``, 1995); marks after the year, such as ``(V)``, are removed with it."""
    match = _YEAR.search(title)
    if match is None:
        return title.strip(), None
    return title[: match.start()].strip(), int(match[1])


def apply_pattern(frame: pl.LazyFrame, pattern: str | None, origin: Origin) -> pl.LazyFrame:
    """Splits titles by a pattern; without one, suggests ``film`` if the titles seem to follow it.

    Args:
        frame: With a column ``title``, of text or null.
        pattern: ``film``, or a regular expression with the group ``title`` and optionally ``year`` that a whole title
            matches; None leaves titles unchanged.
        origin: Name of the table in error messages; receives a note.

    Returns:
        The frame; titles that fit the pattern are changed, and ``year`` (Int64, null) is added if missing.
    """
    titles = origin.collect(frame.select(pl.col("title").unique().drop_nulls()))["title"]
    if pattern is None:
        _offer(titles, origin)
        return frame
    parts = {title: _apart(title, pattern) for title in titles}
    fitting = {title: found for title, found in parts.items() if found is not None}
    origin.note("title", f"{len(fitting):,} of {len(parts):,} distinct titles fit `title_pattern: {pattern}`")
    lookup = pl.LazyFrame(
        {
            "title": list(fitting),
            "__title": [title for title, _ in fitting.values()],
            "__year": [year for _, year in fitting.values()],
        },
        schema={"title": pl.String, "__title": pl.String, "__year": pl.Int64},
    )
    joined = frame.join(lookup, on="title", how="left", maintain_order="left")
    joined = joined.with_columns(pl.coalesce("__title", "title").alias("title"))
    if "year" not in frame.collect_schema():
        joined = joined.with_columns(pl.col("__year").alias("year"))
    return joined.drop("__title", "__year")


def _apart(title: str, pattern: str) -> tuple[str, int | None] | None:
    """The title and year that a pattern finds; None if it does not match or would leave no title."""
    if pattern == FILM:
        stripped, year = title_and_year(title)
        natural = natural_title(stripped)
        return (natural, year) if natural and (year is not None or natural != title) else None
    match = re.fullmatch(pattern, title)
    if match is None or not (found := match["title"]) or not found.strip():
        return None
    given = match.groupdict().get("year")
    return natural_title(found), int(given) if given and re.fullmatch(r"\d{1,4}", given) else None


def _offer(titles: pl.Series, origin: Origin) -> None:
    with_year = titles.filter(titles.str.contains(_ENDS_IN_YEAR))
    inverted = titles.filter(titles.str.contains(_ARTICLE_BEHIND))
    if len(titles) < 2 or max(len(with_year), len(inverted)) < max(2, _SHARE * len(titles)):
        return
    example = next(iter(with_year.filter(with_year.str.contains(_ARTICLE_BEHIND))), None)
    example = example or (with_year[0] if len(with_year) else inverted[0])
    title, year = _apart(example, FILM) or (example, None)
    origin.note(
        "title",
        f"{len(with_year):,} of {len(titles):,} titles end in a year and {len(inverted):,} have a trailing article; "
        f"`data.source.title_pattern: film` would read {example!r} as {title!r}"
        + (f" and the number `year` {year}" if year is not None else ""),
    )


def _uninvert(title: str) -> str:
    match = _INVERTED.match(title)
    if match is None:
        return title
    article = match["article"]
    return f"{article}{match['title']}" if article.endswith("'") else f"{article} {match['title']}"
