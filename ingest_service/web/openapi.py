"""The OpenAPI 3.1 document, generated from the routes and the schemas that serve them."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import EXCLUDE, Schema
from werkzeug.routing import Rule

from ingest_service.keys.scope import Scope
from ingest_service.version import VERSION
from ingest_service.web.item_lists import MAX_ID, IdList, ItemList, MappingList, MappingSchema
from ingest_service.web.ops_schemas import ProblemDetails
from ingest_service.web.problems import (
    ANY_PROBLEMS,
    BODY_PROBLEMS,
    PROBLEMS,
    Problem,
    slug_of,
)
from ingest_service.web.request_schemas import Absent, FindRequest
from ingest_service.web.response_fields import Answer
from ingest_service.web.scopes import View, needs
from ingest_service.web.strict_schema import StrictSchema, Unknown

_PROBLEM_MEDIA_TYPE = "application/problem+json"
#: What there is to read about, in the order in which it is shown.
_TAGS = {
    "Ingestions": "Submit items, follow them, fetch the results.",
    "Control": "Change what waits, and how fast it goes.",
    "Operation": "Is it there, is it well.",
    "Documentation": "What you are reading.",
}
_HEADERS = {
    "Location": "Where to follow the ingestion.",
    "Idempotency-Replayed": "`true` if this is the answer of an earlier request.",
    "ETag": "Names this answer, for `If-None-Match`.",
    "Retry-After": "Seconds until something will have changed, while it is unfinished.",
    "RateLimit-Policy": "How many requests `q` a key may send in `w` seconds, if that is limited.",
    "RateLimit": "How many of them remain, `r`, and in how many seconds there are more, `t`.",
}
_RATE = ("RateLimit-Policy", "RateLimit")
_TRY_AGAIN = {"Retry-After": ("Seconds after which to try again.", "integer")}
#: Headers of problems, by status.
_PROBLEM_HEADERS = {
    401: {"WWW-Authenticate": ("How to authenticate: `Bearer`.", "string")},
    429: _TRY_AGAIN,
    503: _TRY_AGAIN,
}
_KEY = "key"
_SECURITY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "ik_<8 characters>_<43 characters>",
    "description": "An API key, made with `python -m ingest_service keys new`. What each route "
    "asks of it is one of the scopes "
    "`submit`, `read`, `operate` (changing what others have submitted, and the queue) and "
    "`metrics` (which `read` includes). Where the operator has set up no keys, none is needed.",
}
_IF_NONE_MATCH = "The `ETag` of an earlier answer; if it still holds there is no new one (304)."
_NOT_MODIFIED = "The answer that the client has still holds."
_PATHS = {
    "ingestion_id": "what the submission was answered",
    "slug": "the last part of the `type` of a problem",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a view takes, answers and raises; the rest of the document follows from that."""

    tag: str
    #: What it asks of a key.
    scope: Scope
    #: The shapes of its successful answers in JSON; none if it gives only text.
    returns: tuple[type[Answer], ...]
    #: What it raises beside what reading the request does.
    raises: tuple[type[Exception], ...] = ()
    query: type[Schema] | None = None
    bodies: tuple[type[StrictSchema], ...] = ()
    body_required: bool = True
    #: Headers it reads: what they mean, and what is allowed.
    headers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    #: Headers that it sends.
    sends: tuple[str, ...] = ()
    #: Other media types in which the same can be had as text, with an example of each.
    streams: dict[str, str] = field(default_factory=dict)
    #: Whether the answer has an `ETag` that a client can send back.
    conditional: bool = False


def operation(**fields: Any) -> Callable[[View], View]:
    """Document a view; takes the fields of `Operation`.

    The docstring of the view is for clients: its first line is the summary, the rest the
    description.
    """

    def attach(view: View) -> View:
        documented = Operation(**fields)
        view.__operation__ = documented  # type: ignore[attr-defined]
        return needs(documented.scope)(view)

    return attach


@dataclass(frozen=True, slots=True)
class Contract:
    """What of the document depends on the settings."""

    item_limit: int
    #: The status of a body that is JSON and not valid.
    validation_status: int
    unknown: Unknown
    #: Whether nobody comes in without a key.
    keys_needed: bool


def build_document(app: Flask, contract: Contract) -> dict[str, Any]:
    """Return the document for all documented routes of `app`."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="ingest_service",
        version=VERSION,
        openapi_version="3.1.0",
        plugins=[plugin],
        info={
            "description": "Queue work in front of one slow, rate-limited API: "
            "in order, at its pace, nothing lost."
        },
        tags=[{"name": name, "description": about} for name, about in _TAGS.items()],
    )
    converter = cast(OpenAPIConverter, plugin.converter)

    def describe_fields(
        _: Any, described: Any, **__: Any
    ) -> dict[str, Any]:  # the signature apispec expects
        return _own_field(converter, described, contract.item_limit)

    converter.add_attribute_function(describe_fields)  # type: ignore[no-untyped-call]
    spec.components.security_scheme(_KEY, _SECURITY_SCHEME)
    spec.components.schema("Problem", schema=ProblemDetails)
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        if hasattr(view, "__operation__"):
            _add(spec, rule, view, contract)
    document = spec.to_dict()
    types = [kind.type for kind in PROBLEMS.values()]
    schemas = document["components"]["schemas"]
    schemas["Problem"]["properties"]["type"]["enum"] = types
    # That one of them has to be there, marshmallow has no word for.
    schemas[FindRequest.__name__]["anyOf"] = [
        {"required": [name], "properties": {name: {"type": "string"}}}
        for name in FindRequest().fields
    ]
    if contract.unknown == EXCLUDE:
        for schema in schemas.values():
            schema.pop("additionalProperties", None)
    return document


def _add(spec: APISpec, rule: Rule, view: Any, contract: Contract) -> None:
    documented: Operation = view.__operation__
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
    methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    summary, _, description = (inspect.getdoc(view) or "").partition("\n\n")
    body: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": summary.removesuffix("."),
        "description": " ".join(description.split()) or summary,
        "tags": [documented.tag],
        "parameters": _parameters(rule, documented),
        "responses": _responses(rule, methods, documented, contract),
        "security": _security(documented, contract),
    }
    if documented.bodies:
        body["requestBody"] = {
            "required": documented.body_required,
            "content": {
                "application/json": {
                    "schema": _any_of(documented.bodies),
                    "examples": _examples(documented.bodies),
                }
            },
        }
    spec.path(path=path, operations={method.lower(): body for method in methods})


def _security(documented: Operation, contract: Contract) -> list[dict[str, list[str]]]:
    if documented.scope is Scope.OPEN:
        return []
    needed: dict[str, list[str]] = {_KEY: [documented.scope.value]}
    return [needed] if contract.keys_needed else [needed, {}]


def _parameters(rule: Rule, documented: Operation) -> list[Any]:
    parameters: list[Any] = [
        {
            "in": "path",
            "name": name,
            "required": True,
            "description": _PATHS[name],
            "schema": {"type": "string"},
        }
        for name in sorted(rule.arguments)
    ]
    if documented.query:
        parameters.append({"in": "query", "schema": documented.query})
    headers = dict(documented.headers)
    if documented.conditional:
        headers["If-None-Match"] = (_IF_NONE_MATCH, {"type": "string"})
    for name, (about, schema) in headers.items():
        parameters.append({"in": "header", "name": name, "description": about, "schema": schema})
    return parameters


def _responses(
    rule: Rule, methods: list[str], documented: Operation, contract: Contract
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": _success(documented)}
    if documented.conditional:
        responses["304"] = {
            "description": _NOT_MODIFIED,
            "content": {},
            "headers": responses["200"]["headers"],
        }
    for kind, status in _problems(rule, methods, documented, contract):
        response = responses.setdefault(
            str(status),
            {
                "description": "",
                "content": {_PROBLEM_MEDIA_TYPE: {"schema": "Problem", "examples": {}}},
            },
        )
        response["description"] = f"{response['description']} {kind.title}.".strip()
        example = {"value": _problem_example(kind, status)}
        response["content"][_PROBLEM_MEDIA_TYPE]["examples"][kind.slug] = example
        headers = dict(_PROBLEM_HEADERS.get(status, {}))
        if documented.scope is not Scope.OPEN and status != 401:
            headers |= {name: (_HEADERS[name], "string") for name in _RATE}
        if headers:
            response["headers"] = {
                name: {"description": about, "schema": {"type": kind_of_value}}
                for name, (about, kind_of_value) in headers.items()
            }
    return responses


def _success(documented: Operation) -> dict[str, Any]:
    sends = (*documented.sends, *(("ETag",) if documented.conditional else ()))
    if documented.scope is not Scope.OPEN:
        sends += _RATE
    content: dict[str, Any] = {}
    if documented.returns:
        content["application/json"] = {
            "schema": _any_of(documented.returns),
            "examples": _examples(documented.returns),
        }
    abouts = [inspect.getdoc(schema) or "" for schema in documented.returns]
    return {
        "description": " ".join(abouts) or "Text.",
        "content": content
        | {
            media_type: {"schema": {"type": "string"}, "examples": {"stream": {"value": text}}}
            for media_type, text in documented.streams.items()
        },
        "headers": {
            name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in sends
        },
    }


def _problems(
    rule: Rule, methods: list[str], documented: Operation, contract: Contract
) -> list[tuple[Problem, int]]:
    """Return what can go wrong, each with its status: it follows from what the view uses."""
    slugs = [slug_of(error) for error in documented.raises]
    slugs += BODY_PROBLEMS if documented.bodies else ()
    slugs += ANY_PROBLEMS
    if not rule.rule.startswith("/health"):
        slugs.append("forbidden")
    if documented.scope is not Scope.OPEN:
        slugs += ["unauthorized", "too-many-requests"]
    answers = [(PROBLEMS[slug], PROBLEMS[slug].status) for slug in dict.fromkeys(slugs)]
    invalid = PROBLEMS["validation-error"]
    if documented.query or documented.headers:
        answers.append((invalid, invalid.status))
    if documented.bodies:
        answers.append((invalid, contract.validation_status))
    return [*dict.fromkeys(answers), (PROBLEMS["internal-error"], 500)]


def _examples(schemas: tuple[Any, ...]) -> dict[str, Any]:
    return {schema.__name__: {"value": schema.example} for schema in schemas}


def _problem_example(kind: Problem, status: int) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": status,
        "detail": kind.explanation,
        "error": kind.explanation,
    }
    if kind.slug == "validation-error":
        text = f"An id must be a whole number from 1 to {MAX_ID}."
        example |= {
            "detail": f"/ids/3: {text}",
            "error": f"/ids/3: {text}",
            "errors": [{"pointer": "/ids/3", "detail": text}],
        }
    return example


def _any_of(schemas: tuple[type[Schema], ...]) -> Any:
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def _own_field(converter: Any, described: Any, item_limit: int) -> dict[str, Any]:
    """Describe what apispec does not know."""
    if isinstance(described, Absent):
        return {"type": "null"}
    if not isinstance(described, ItemList):
        return {}
    items: dict[str, Any] = {}
    if isinstance(described, IdList):
        items = {"type": "integer", "minimum": 1, "maximum": MAX_ID}
    elif isinstance(described, MappingList):
        items = converter.resolve_nested_schema(MappingSchema)
    return {"type": "array", "minItems": 1, "maxItems": item_limit, "items": items}


def _schema_name(schema: Any) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return "Mapping" if kind is MappingSchema else kind.__name__
