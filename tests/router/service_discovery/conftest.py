"""Certificates of the system are not read anew for each client of the API, which speaks plain HTTP here."""

import ssl
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_certificates_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        """Nothing: each time takes 40 ms, and a test makes two clients."""

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load)
