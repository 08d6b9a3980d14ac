"""May this request be answered? Bearer tokens for the applications that a run serves."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestrator.plan.plan import Plan
from orchestrator.secret import resolve


def bearer_headers(plan: Plan) -> dict[str, str]:
    """The header that the plan's application wants, if it wants one. Raises ``SecretMissing``."""
    token = plan.inference.token if plan.inference else None
    return {"Authorization": f"Bearer {resolve(token)}"} if token else {}


class Gate:
    """Lets in who shows the token that ``reference`` stands for; everybody, where it is ``None``.

    The token is looked up where the gate is made, so that only the reference travels.
    """

    def __init__(self, reference: str | None) -> None:
        self._wanted = f"Bearer {resolve(reference)}".encode() if reference else None

    def refusal(self, request: Request) -> JSONResponse | None:
        """401 for who shows no token, 403 for who shows another; compared in constant time."""
        if self._wanted is None:
            return None
        shown = request.headers.get("authorization")
        if shown is None:
            wanted = {"WWW-Authenticate": "Bearer"}
            return JSONResponse({"error": "a bearer token is wanted"}, 401, headers=wanted)
        if not hmac.compare_digest(shown.encode(), self._wanted):
            return JSONResponse({"error": "this is not the token"}, 403)
        return None
