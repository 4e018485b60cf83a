"""What each address does."""

from serving.service.api.routes import catalogue, collecting, recommending

ROUTERS = (recommending.router, collecting.router, catalogue.router)
