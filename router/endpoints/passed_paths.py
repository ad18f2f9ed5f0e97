"""Paths that are passed to a server of the model as they are: one table, from which routes and handlers are made."""

from dataclasses import dataclass

from router.endpoints.schemas import (
    DETOKENIZE,
    EMBED,
    INPUT,
    MESSAGES,
    RERANK,
    RESPONSES,
    SCORE,
    TOKENIZE,
    Schema,
)

_POOLING = "a prefill/decode pair runs a model that generates text; serve this model by plain servers for it"
_NO_BOOTSTRAP = "SGLang takes no bootstrap fields there, so the servers of a pair cannot meet; send {instead}"


@dataclass(frozen=True)
class PassedPath:
    """Paths of this router with one path of the servers.

    Attributes:
        paths: The paths here.
        server_path: The path on the servers.
        name: In metrics.
        summary: What it does, for the OpenAPI document.
        schema: JSON schema of the body.
        refused_on_pairs: Why pairs do not serve it; None where a pair's decode server does, which then answers without
            its engine.
        has_named_events: Whether the events of a stream have names, also those of errors.
    """

    paths: tuple[str, ...]
    server_path: str
    name: str
    summary: str
    schema: Schema
    refused_on_pairs: str | None = None
    has_named_events: bool = False

    @property
    def needs_engine(self) -> bool:
        """Whether the server's engine answers."""
        return self.refused_on_pairs is not None


RESPONSES_PATH = PassedPath(
    ("/v1/responses",),
    "/v1/responses",
    "responses",
    "Generate text, as OpenAI's responses",
    RESPONSES,
    _NO_BOOTSTRAP.format(instead="/v1/chat/completions"),
    has_named_events=True,
)

PASSED_PATHS = (
    PassedPath(("/v1/embeddings",), "/v1/embeddings", "embeddings", "Embed texts", INPUT, _POOLING),
    PassedPath(("/encode",), "/encode", "encode", "Embed texts, as SGLang", EMBED, _POOLING),
    PassedPath(("/v1/classify",), "/v1/classify", "classify", "Classify texts", INPUT, _POOLING),
    PassedPath(("/classify",), "/classify", "classify", "Classify texts, as the server does", EMBED, _POOLING),
    PassedPath(("/v1/score", "/score"), "/v1/score", "score", "Score items for a query", SCORE, _POOLING),
    PassedPath(("/v1/rerank", "/rerank"), "/v1/rerank", "rerank", "Rank documents", RERANK, _POOLING),
    PassedPath(("/v1/tokenize", "/tokenize"), "/tokenize", "tokenize", "Text to token ids", TOKENIZE),
    PassedPath(("/v1/detokenize", "/detokenize"), "/detokenize", "detokenize", "Token ids to text", DETOKENIZE),
    PassedPath(
        ("/v1/messages",),
        "/v1/messages",
        "messages",
        "Generate text, as Anthropic's messages",
        MESSAGES,
        _NO_BOOTSTRAP.format(instead="/v1/chat/completions"),
        has_named_events=True,
    ),
    PassedPath(
        ("/v1/messages/count_tokens",),
        "/v1/messages/count_tokens",
        "count_tokens",
        "The number of token ids of Anthropic's messages",
        MESSAGES,
    ),
)
