"""What each address does."""

from serving.service.api.routes import (
    catalogue,
    collecting,
    console,
    governing,
    looking,
    measuring,
    operations,
    pages,
    people,
    recommending,
    rollouts,
    ubi,
)

ROUTERS = (
    recommending.router,
    collecting.router,
    ubi.router,
    catalogue.router,
    people.router,
    looking.router,
    governing.router,
    measuring.router,
    rollouts.router,
    operations.router,
    pages.router,
    console.router,
)
