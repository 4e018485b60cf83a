"""A world's log as a dataset (docs/data.md), and its items as the service's."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.driver import Listener, run
from benchmarks.simulation.events import SCHEMA, interactions
from benchmarks.simulation.lists import Shown
from benchmarks.simulation.memory import Memory
from benchmarks.simulation.policies import Policy
from benchmarks.simulation.world import Requests, World
from serving.service.types import Item
from trainer.data.dataset import Dataset, write_dataset


def write_log(world: World, path: Path, policy: Policy, days: Iterable[int], *, part: int = 0) -> Dataset:
    """Writes what a policy's visitors did.

    Nothing of the truth is in it: neither tastes, qualities and latent features, nor which places were looked at.

    Args:
        world: The world.
        path: The directory to create.
        policy: Shows the lists; the log has its propensities.
        days: The days.
        part: As of `benchmarks.simulation.driver.run`.

    Raises:
        DatasetError: The path exists.
    """
    days = list(days)
    return write_tables(
        world,
        path,
        log_of(world, policy, days, part=part),
        day=days[-1],
        description=f"Simulated visits on days {days[0]} to {days[-1]}, shown lists of the policy {policy.name}.",
    )


def log_of(
    world: World,
    policy: Policy,
    days: Iterable[int],
    *,
    part: int = 0,
    memory: Memory | None = None,
    listeners: Sequence[Listener] = (),
) -> pl.DataFrame:
    """What a policy's visitors did, as `benchmarks.simulation.events.interactions`.

    Args:
        world: The world.
        policy: Shows the lists.
        days: The days.
        part, memory, listeners: As of `benchmarks.simulation.driver.run`.
    """
    tables = [pl.DataFrame(schema=SCHEMA)]

    def hear(requests: Requests, shown: Shown, outcome: Outcome) -> None:
        tables.append(interactions(world, requests, shown, outcome))

    run(world, policy, days, part=part, memory=memory, listeners=[hear, *listeners], exact=False)
    return pl.concat(tables)


def write_tables(world: World, path: Path, log: pl.DataFrame, *, day: int, description: str) -> Dataset:
    """Writes interactions with the items, people and titles that a world has up to a day.

    Args:
        world: The world.
        path: The directory to create.
        log: From `benchmarks.simulation.events.interactions`.
        day: Items that arrive later are left out.
        description: Of the log.

    Raises:
        DatasetError: The path exists.
    """
    known = [item for item in range(len(world.items)) if world.items.arrives[item] <= day]
    return write_dataset(
        path,
        name=f"simulation-{world.seed}",
        description=description,
        licence="Apache-2.0" if world.settings.items.source == "shop" else "Titles as of their source",
        homepage="",
        interactions=log.sort("timestamp", maintain_order=True),
        items=_items(world, known),
        users=pl.DataFrame(
            {
                "user_id": world.people.ids,
                "languages": [world.people.languages(each, world.languages) for each in range(len(world.people))],
                "country": world.people.country,
            },
            schema={"user_id": pl.String, "languages": pl.List(pl.String), "country": pl.String},
        ),
        translations=_translations(world, known),
    )


def service_item(world: World, item: int) -> Item:
    """An item as the service takes it: with the title in its own language."""
    known = world.items
    language = world.languages[known.language[item]]
    return Item(
        item_id=known.ids[item],
        language=language,
        title=known.titles[item][language],
        categories=known.categories[item],
        numbers={} if known.price[item] != known.price[item] else {"price": float(known.price[item])},
    )


def _items(world: World, known: list[int]) -> pl.DataFrame:
    items = [service_item(world, each) for each in known]
    table = pl.DataFrame(
        {
            "item_id": [each.item_id for each in items],
            "language": [each.language for each in items],
            "title": [each.title for each in items],
            "description": [None for _ in items],
            "categories": [list(each.categories) for each in items],
        },
        schema={
            "item_id": pl.String,
            "language": pl.String,
            "title": pl.String,
            "description": pl.String,
            "categories": pl.List(pl.String),
        },
    )
    return table.with_columns(price=world.items.price[known]) if world.settings.items.source == "shop" else table


def _translations(world: World, known: list[int]) -> pl.DataFrame | None:
    rows = [
        (world.items.ids[each], tag, title, None)
        for each in known
        for tag, title in world.items.titles[each].items()
        if tag != world.languages[world.items.language[each]]
    ]
    schema = {"item_id": pl.String, "language": pl.String, "title": pl.String, "description": pl.String}
    return pl.DataFrame(rows, schema, orient="row") if rows else None
