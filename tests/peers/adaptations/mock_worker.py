"""Their mock of SGLang, and what SGLang answers that theirs does not.

The runner puts this file where theirs was and theirs beside it as `unchanged_mock_worker.py`. Everything that the mock
does stays theirs. Two answers come before: the model's name, which is `mock` there while the tests ask for
`test-model`, and `/server_info`, which SGLang has and the mock has not.
"""

import argparse
import importlib

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.routing import Route

theirs = importlib.import_module("unchanged_mock_worker")
MODEL = "test-model"
ANSWERS = {
    "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model"}]},
    "/server_info": {
        "served_model_name": MODEL,
        "model_path": MODEL,
        "version": "mock",
        "disaggregation_bootstrap_port": 8998,
    },
}
create_theirs = theirs.create_app


def create_app(given: argparse.Namespace) -> FastAPI:
    """Their app, with the answers before all of its own."""
    app: FastAPI = create_theirs(given)
    for path, answer in ANSWERS.items():
        app.router.routes.insert(0, Route(path, lambda _, answer=answer: JSONResponse(answer)))
    return app


if __name__ == "__main__":
    vars(theirs)["create_app"] = create_app
    theirs.main()
