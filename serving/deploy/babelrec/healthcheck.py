"""Asks a server's gRPC health service; the exit status is 0 if it serves, else 1.

python healthcheck.py HOST:PORT [SERVICE]
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 4.0


def main(arguments: list[str]) -> int:
    """Checks the server; prints the reason if it does not serve."""
    address, service = [*arguments, ""][:2]
    try:
        with grpc.insecure_channel(address) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_SECONDS).status
    except grpc.RpcError as error:
        print(f"{address}: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    if status == health_pb2.HealthCheckResponse.SERVING:
        return 0
    print(f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT [SERVICE]")
    sys.exit(main(sys.argv[1:]))
