"""People who look at the page: a browser each, with the token that Airflow's own auth manager gives them."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

ROLES = {"vera": "viewer", "uma": "user", "otto": "op", "ada": "admin"}
HOST = "http://airflow.test"


class Person:
    """A browser with somebody's cookie in it.

    Args:
        server: The application.
        name: One of :data:`ROLES`; None is nobody, who has no cookie.
    """

    def __init__(self, server: Any, name: str | None) -> None:
        self.client = TestClient(server, base_url=HOST, raise_server_exceptions=False)
        if name is not None:
            self.client.cookies.set("_token", token_of(name))

    def close(self) -> None:
        """Close the browser."""
        self.client.close()

    def get(self, path: str, **query: Any) -> Any:
        """A GET below the page's own path."""
        return self.client.get(f"/runops{path}", params=query)

    def runs(self, **query: Any) -> dict[str, Any]:
        """The answer to a question for runs."""
        answer = self.get("/api/runs", **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def act(self, what: str, body: Any, **headers: str | None) -> Any:
        """A POST as the page itself sends it; a header that is None is left out."""
        sent = {
            "content-type": "application/json",
            "x-runops": "1",
            "sec-fetch-site": "same-origin",
            "origin": HOST,
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            f"/runops/api/{what}", json=body, headers={name: each for name, each in sent.items() if each is not None}
        )


def token_of(name: str) -> str:
    """The token that Airflow's auth manager gives somebody at login."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=ROLES[name]))
