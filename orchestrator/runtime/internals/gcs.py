"""Does the head of a cluster let this token in? Asked of its control store itself.

Ray's own client tries a wrong token for 20 s, and then says no more than that nobody answered.
"""

from __future__ import annotations

import grpc

CHECK_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A question that every control store answers, and that changes nothing."""

_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def is_refused(address: str, token: str | None, timeout_seconds: float) -> bool:
    """Whether ``host:port`` refuses ``token``, or who has none. ``False`` also where nothing can
    be told: Ray itself will say it."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(CHECK_METHOD)(b"", timeout=timeout_seconds, metadata=metadata)
        except grpc.RpcError as error:
            return error.code() in _REFUSED
    return False
