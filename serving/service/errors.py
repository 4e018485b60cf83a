"""What can be wrong with a request to the service, by what the caller can do about it."""


class ServiceError(Exception):
    """A request that can't be answered; the message names the thing and the remedy."""


class InvalidRequestError(ServiceError):
    """A value of the request is wrong."""


class UnknownError(ServiceError):
    """There is no such item, user, key or recommendation."""


class ForbiddenError(ServiceError):
    """The caller may not do this."""


class UnavailableError(ServiceError):
    """It can't be done now; the same request may succeed later."""
