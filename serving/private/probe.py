"""Checks the required interfaces of other libraries when a server starts."""

import logging
from collections.abc import Iterable

from serving.private import grpcio, libc, litert, op_libraries, profiling, protobuf, tensorflow, tstring
from serving.private.interfaces import Interface, MissingInterfaceError

INTERFACES = tuple(
    interface
    for module in (protobuf, tensorflow, tstring, profiling, grpcio, op_libraries, litert, libc)
    for interface in module.INTERFACES
)

_LOGGER = logging.getLogger(__name__)


def check(interfaces: Iterable[Interface] = INTERFACES) -> None:
    """Resolves all interfaces; missing optional ones are logged as warnings.

    Raises:
        MissingInterfaceError: a required one is missing.
    """
    for interface in interfaces:
        problem = interface.problem()
        if problem is None:
            continue
        if not interface.without:
            raise MissingInterfaceError(problem)
        _LOGGER.warning("%s", problem)
