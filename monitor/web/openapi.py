"""/api/v1/openapi.json: the HTTP API described for programs, from the models that check its requests and a table of its routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from monitor.json_schema import standard
from monitor.web.api import MOST_SAMPLES, MOST_SIGNATURES, PhaseRequest, StartRequest
from monitor.web.operate import FeedbackRequest, SilenceRequest
from monitor.web.problems import CONTENT_TYPE
from monitor.web.settings import Scope

JSON, HTML, MARKDOWN, TEXT, PNG, ZIP = "application/json", "text/html", "text/markdown", "text/plain", "image/png", "application/zip"
_WHY = {
    400: "not as asked for: `detail` says what is wrong", 401: "no token, or an unknown one",
    403: "the token lacks the scope, or the host is not allowed", 404: "there is no such thing", 409: "not possible in this phase",
    413: "a body of more than 64 KiB", 415: "a body that is compressed", 422: "refused: `detail` says why",
    429: "too many wrong tokens from this address: wait a minute",
    503: "the database, or the daemon, cannot answer just now",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One that may stand in the query."""

    name: str
    schema: Mapping[str, Any]
    words: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `scope`: what a token must be good for; "read" asks for one beyond loopback only, "" for none at all."""

    method: Literal["get", "post"]
    path: str
    words: str
    scope: Scope | Literal[""]
    kinds: tuple[str, ...] = (JSON,)
    status: int = 200
    body: type[BaseModel] | None = None
    query: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()

    @property
    def problems(self) -> tuple[int, ...]:
        """Every status of an error that it may answer with."""
        tokens = (401, 403, 429) if self.scope else ()
        posted = (400, 413, 415) if self.body else ()
        return tuple(sorted({*self.errors, *tokens, *posted, 503}))

    @property
    def name(self) -> str:
        """A name that generated clients can call it by."""
        words = (part.strip("{}").replace("-", "") for part in self.path.removeprefix("/api/v1").replace(".", "/").split("/"))
        linked = "Linked" if self.path.startswith(("/updates/", "/incidents/")) else ""
        return self.method + linked + "".join(word.capitalize() for word in words if word)


def _read(path: str, words: str, **more: Any) -> Operation:
    return Operation("get", path, words, "read", **more)


def _act(act: str, words: str, **more: Any) -> Operation:
    return Operation("post", f"/api/v1/updates/{{id}}/{act}", words, "update", errors=(404, 409), **more)


def _operate(path: str, words: str, **more: Any) -> Operation:
    return Operation("post", path, words, "operate", **more)


_MARKDOWN = Parameter("format", {"enum": ["html", "md"], "default": "html"}, "md for Markdown")
_STILL = Parameter("refresh", {"type": "string"}, "off: the page does not load itself anew while something is open")
OPERATIONS = (
    Operation("get", "/metrics", "The exposition for Prometheus", "", (TEXT, "application/openmetrics-text")),
    Operation("get", "/-/healthy", "200 while runs are started and commits go through", ""),
    Operation("get", "/-/ready", "200 once the daemon probes", ""),
    Operation("post", "/-/reload", "Take the configuration as its file has it now: what changed, or every problem with it", "admin", errors=(422,)),
    _read("/probe", "One run of an http probe against another address of the shop, for Prometheus", kinds=(TEXT,), errors=(400,), query=(
        Parameter("module", {"type": "string"}, "the name of an http probe", required=True),
        Parameter("target", {"type": "string"}, "the address; its host belongs to a configured probe", required=True),
        Parameter("debug", {"type": "string"}, "true: the log of the run"))),
    Operation("get", "/api/v1/openapi.json", "This description", ""),
    _read("/api/v1/probes", "Every target with its state"),
    _read("/api/v1/samples", "The newest samples of the last 24 hours, newest first", errors=(400,), query=(
        Parameter("probe", {"type": "string"}, "of one probe alone"),
        Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST_SAMPLES, "default": 100}, "how many at most"))),
    _read("/api/v1/signatures", "Errors that were logged, by signature, newest first", errors=(400, 404), query=(
        Parameter("probe", {"type": "string"}, "of one probe alone"),
        Parameter("since", {"type": "number", "minimum": 0, "default": 0}, "first seen at that time or later, in Unix seconds"),
        Parameter("update", {"type": "string"}, "those that are new with this update, what tells most first; `newest` for the newest one"),
        Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST_SIGNATURES, "default": 100}, "how many at most"))),
    _read("/api/v1/incidents", "Incidents, newest first", query=(Parameter("open", {"type": "string"}, "true: those that are open"),)),
    _read("/api/v1/incidents/{id}", "One incident and every step of its life", errors=(404,)),
    _read("/incidents/{id}", "The same, at the address that messages link to", errors=(404,)),
    _operate("/api/v1/incidents/{id}/ack", "Take an incident: its reminders end", errors=(404, 409)),
    _operate("/api/v1/incidents/{id}/feedback", "Say whether its page was of use", body=FeedbackRequest, errors=(404,)),
    _read("/api/v1/silences", "The silences that hold, and those of the last week"),
    _operate("/api/v1/silences", "Hold paging back for some probes, for a while", status=201, body=SilenceRequest),
    _operate("/api/v1/silences/{id}/end", "End a silence before its time", errors=(404, 409)),
    _read("/api/v1/updates", "The newest updates, newest first"),
    Operation("post", "/api/v1/updates", "Start an update: before is frozen", "update", status=201, body=StartRequest, errors=(409, 422)),
    _read("/api/v1/updates/{id}", "One update, the evidence of every signal, and who did what; `newest` for the newest one", errors=(404,)),
    _read("/api/v1/updates/{id}/verdict", "What a gate or a rollout controller reads", errors=(404,)),
    _read("/api/v1/updates/{id}/report", "The post-mortem", kinds=(HTML, MARKDOWN), errors=(404,), query=(_MARKDOWN,)),
    _read("/", "Operator page: how the shop is", kinds=(HTML,), query=(_STILL,)),
    _read("/updates/{id}", "Operator page: one update and the evidence of every signal; messages link to it", kinds=(HTML,), errors=(404,),
          query=(_STILL,)),
    _read("/artifacts/{id}", "Evidence that was kept, by its name: a screenshot is shown, the rest is saved", kinds=(PNG, TEXT, ZIP), errors=(404,)),
    _act("phase", "The update is in its next phase", body=PhaseRequest),
    _act("finish", "Rolled out everywhere: observation begins"),
    _act("rollback", "Taken back: recovery is watched for"),
    _act("cancel", "It did not take place"),
)


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1 of all operations. The caller must not change it."""
    models = [operation.body for operation in OPERATIONS if operation.body]
    references, shared = models_json_schema([(model, "validation") for model in models], ref_template="#/components/schemas/{model}")
    bodies = {model: references[model, "validation"] for model in models}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, bodies)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tillwatch", "version": version("tillwatch"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}], "paths": paths,
        "components": {
            "schemas": {**standard(shared["$defs"]), "Problem": _problem()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "a token of the configuration"}},
        },
    }


def _described(operation: Operation, bodies: Mapping[type[BaseModel], Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": operation.name, "summary": operation.words, "responses": _answers(operation)}
    parameters = [*_in_path(operation.path), *(_in_query(parameter) for parameter in operation.query)]
    if parameters:
        told["parameters"] = parameters
    if operation.body:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": bodies[operation.body]}}}
    if operation.scope:
        unless = ", but not on loopback without TLS" if operation.scope == "read" else ""
        told["description"] = f"Needs a token of scope `{operation.scope}`{unless}."
        told["security"] = [{"token": []}, {}] if operation.scope == "read" else [{"token": []}]
    return told


def _answers(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": {"type": "object" if kind == JSON else "string"}} for kind in operation.kinds}
    problem = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    errors = {str(status): {"description": _WHY[status], "content": problem} for status in operation.problems}
    if operation.path.startswith("/-/"):
        errors["503"] = {"description": "not so; the same document", "content": content}
    return {str(operation.status): {"description": "as asked for", "content": content}} | errors


def _in_path(path: str) -> Iterable[dict[str, Any]]:
    if "{id}" in path:
        yield {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "its identifier"}


def _in_query(parameter: Parameter) -> dict[str, Any]:
    return {"name": parameter.name, "in": "query", "required": parameter.required, "schema": dict(parameter.schema), "description": parameter.words}


def _problem() -> dict[str, Any]:
    """RFC 9457, with a code to hold on to."""
    text = {"type": "string"}
    return {
        "type": "object", "required": ["type", "title", "code", "status", "detail"],
        "properties": {"type": text, "title": text, "code": text, "status": {"type": "integer"}, "detail": text},
    }


async def _serve(_request: web.Request) -> web.Response:
    """The handler of /api/v1/openapi.json. What the API looks like is no secret."""
    return web.json_response(document())


def routes() -> list[web.RouteDef]:
    return [web.get("/api/v1/openapi.json", _serve)]
