"""What can go wrong when a model server is asked, told so that one knows what to do."""

import grpc


class ServingError(Exception):
    """Base of all failures of the client.

    Attributes:
        code: the gRPC status, None when the request was refused before it was sent.
        exit_code: what the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class UnreachableError(ServingError):
    """No server answers at the address."""

    exit_code = 3


class DeadlineExceededError(ServingError):
    """The answer did not come within the time-out."""

    exit_code = 4


class ModelNotFoundError(ServingError):
    """The server has no such model, or no such version of it."""

    exit_code = 5


class BadRequestError(ServingError):
    """The request does not fit: a value of a wrong type, or an input or signature the model doesn't have."""

    exit_code = 2


class OverloadedError(ServingError):
    """The server refuses work because it has too much of it."""

    exit_code = 6


class ServerFaultError(ServingError):
    """The server or its model failed."""


def from_rpc_error(error: grpc.RpcError, target: str, model_name: str, timeout: float | None) -> ServingError:
    """Translates a failed call.

    Args:
        error: what gRPC raised.
        target: the server's address.
        model_name: the model asked for.
        timeout: the deadline, seconds.
    """
    code, details = error.code(), " ".join((error.details() or "").split())
    status = grpc.StatusCode
    if code is status.UNAVAILABLE:
        return UnreachableError(
            f"no model server answers at {target} ({details}). Start one with `python -m serving.server "
            "--port=8500 --model_name=... --model_base_path=...`, or check the address",
            code,
        )
    if code is status.DEADLINE_EXCEEDED:
        limit = f"{timeout:g} s" if timeout is not None else "the deadline"
        return DeadlineExceededError(f"{target} did not answer within {limit}. Allow more time with `timeout`", code)
    if code is status.NOT_FOUND:
        return ModelNotFoundError(
            f"{target} does not serve this: {details}. Check the model name ({model_name!r} was asked for) "
            "and version; the server was started with --model_name",
            code,
        )
    if code in (
        status.INVALID_ARGUMENT,
        status.FAILED_PRECONDITION,
        status.UNIMPLEMENTED,
        status.OUT_OF_RANGE,
    ):
        return BadRequestError(f"{target} refused the request: {details}", code)
    if code is status.RESOURCE_EXHAUSTED:
        return OverloadedError(f"{target} has no capacity left: {details}. Try again later or send less at once", code)
    return ServerFaultError(f"{target} failed with {code.name}: {details}. Its log tells more", code)
