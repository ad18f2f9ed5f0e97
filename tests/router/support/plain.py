"""A plain server that answers the passed paths as SGLang does, or has none of SGLang's own paths as vLLM."""

from collections.abc import Callable
from typing import Any

from tests.router.support.fakes import Call, FakeServer, toy_ids
from tests.router.support.sglang_answers import NO_ENGINE, of_engine, of_http_process, response

OF_SGLANG_ALONE = ("/encode", "/separate_reasoning", "/parse_function_call", "/v1/tokenize", "/v1/classify")


class PlainServer(FakeServer):
    """One that serves a model; `answer`, where set, answers what needs the engine, and `help` what does not.

    Attributes:
        stored: The responses that it has, by their ids.
    """

    def __init__(self, model: str = "m", *, sglang: bool = True) -> None:
        super().__init__(self._handle)
        self.model, self.sglang = model, sglang
        self.answer: Callable[[Call], Any] | None = None
        self.help: Callable[[Call], Any] | None = None
        self.stored: dict[str, Any] = {}

    async def _handle(self, call: Call) -> None:
        info = {"served_model_name": self.model, "disaggregation_mode": "null", "version": "0.5.17"}
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": self.model}]})
        elif call.path == "/server_info" and self.sglang:
            await call.answer(info)
        elif call.path == "/health" or (call.path == "/abort_request" and self.sglang):
            await call.answer({})
        elif call.path == "/server_info" or (not self.sglang and call.path in OF_SGLANG_ALONE):
            await call.answer({"detail": "Not Found"}, 404)
        elif call.path in NO_ENGINE:
            await (self.help or self._help)(call)
        elif call.path.startswith("/v1/responses/"):
            await self._stored(call)
        else:
            await (self.answer or self._generate)(call)

    async def _help(self, call: Call) -> None:
        if call.path == "/tokenize":
            await call.answer({"tokens": toy_ids(call.json)})
        elif call.path == "/detokenize":
            await call.answer({"text": "".join(map(chr, call.json["tokens"]))})
        else:
            status, told = of_http_process(call.path, call.json)
            await call.answer(told, status)

    async def _generate(self, call: Call) -> None:
        told = of_engine(call.path, call.json)
        if call.path == "/v1/responses" and call.json.get("store", True):
            self.stored[told["id"]] = told
        await call.answer(*(({"detail": "Not Found"}, 404) if told is None else (told, 200)))

    async def _stored(self, call: Call) -> None:
        number, _, action = call.path.removeprefix("/v1/responses/").partition("?")[0].partition("/")
        told = self.stored.get(number)
        if told is None:
            await call.answer({"error": {"message": f"Response with id '{number}' not found.", "code": 404}}, 404)
        else:
            await call.answer({**response(number, told), "status": "cancelled" if action else told["status"]})

    @property
    def asked(self) -> list[Call]:
        """What clients sent."""
        return [call for call in self.calls if call.path not in ("/v1/models", "/server_info", "/health")]
