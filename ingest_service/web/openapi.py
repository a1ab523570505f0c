"""The OpenAPI 3.1 document, generated from the routes and the schemas that serve them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from ingest_service.version import VERSION
from ingest_service.web.answers import Answer
from ingest_service.web.request_schemas import MAX_ID, IdList, ItemList, MappingList, MappingSchema
from ingest_service.web.response_schemas import ProblemDetails

View = TypeVar("View", bound=Callable[..., Any])

_PROBLEM_MEDIA_TYPE = "application/problem+json"
_MAPPING_EXAMPLE = {
    "id": "map_001",
    "source": "crm.customer",
    "target": "erp.partner",
    "transformation": {"upper": ["name"]},
}
_BODY_EXAMPLES = {
    "IdsRequest": {"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"},
    "MappingsRequest": {"mappings": [_MAPPING_EXAMPLE], "priority": "HIGH"},
    "MoveRequest": {"priority": "HIGH"},
    "PauseRequest": {"reason": "the upstream is being maintained"},
    "IntervalRequest": {"interval_seconds": 2.5},
}
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
}
_PATHS = {
    "ingestion_id": "what the submission was answered",
    "slug": "the last part of the `type` of a problem",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What the document says about a view."""

    summary: str
    description: str
    tag: str
    answers: dict[int, Answer]
    problems: tuple[str, ...] = ()
    query: type[Schema] | None = None
    bodies: tuple[type[Schema], ...] = ()
    body_required: bool = True
    headers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)


def operation(summary: str, description: str, **rest: Any) -> Callable[[View], View]:
    """Say what the document tells about a view; takes the fields of `Operation`."""

    def attach(view: View) -> View:
        view.__operation__ = Operation(summary, description, **rest)  # type: ignore[attr-defined]
        return view

    return attach


def build_document(app: Flask, problems: dict[str, Any], item_limit: int) -> dict[str, Any]:
    """Return the document for all documented routes of `app`.

    `problems` are the kinds of problems by slug.
    """
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

    def describe_items(
        _: Any, described: Any, **__: Any
    ) -> dict[str, Any]:  # the signature apispec expects
        return _item_list(converter, described, item_limit)

    converter.add_attribute_function(describe_items)  # type: ignore[no-untyped-call]
    spec.components.schema("Problem", schema=ProblemDetails)
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        documented = getattr(app.view_functions[rule.endpoint], "__operation__", None)
        if documented is not None:
            _add(spec, rule, documented, problems)
    document = spec.to_dict()
    types = [kind.type for kind in problems.values()]
    document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"] = types
    return document


def _add(spec: APISpec, rule: Rule, documented: Operation, problems: dict[str, Any]) -> None:
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
    methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    body: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": documented.summary,
        "description": documented.description,
        "tags": [documented.tag],
        "parameters": _parameters(rule, documented),
        "responses": _responses(documented, problems),
    }
    if documented.bodies:
        body["requestBody"] = {
            "required": documented.body_required,
            "content": {
                "application/json": {
                    "schema": _any_of(documented.bodies),
                    "examples": {
                        schema.__name__: {"value": _BODY_EXAMPLES[schema.__name__]}
                        for schema in documented.bodies
                    },
                }
            },
        }
    spec.path(path=path, operations={method.lower(): body for method in methods})


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
    for name, (about, schema) in documented.headers.items():
        parameters.append({"in": "header", "name": name, "description": about, "schema": schema})
    return parameters


def _responses(documented: Operation, problems: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in documented.answers.items():
        responses[str(status)] = {
            "description": answer.description,
            "content": _content(answer),
            "headers": {
                name: {"description": _HEADERS[name], "schema": {"type": "string"}}
                for name in answer.headers
            },
        }
    for slug in (*documented.problems, "internal-error"):
        kind = problems[slug]
        content = responses.setdefault(
            str(kind.status),
            {
                "description": "",
                "content": {_PROBLEM_MEDIA_TYPE: {"schema": "Problem", "examples": {}}},
            },
        )
        content["description"] = f"{content['description']} {kind.title}.".strip()
        content["content"][_PROBLEM_MEDIA_TYPE]["examples"][slug] = {"value": _example(kind)}
        if kind.status == 503:
            content["headers"] = {
                "Retry-After": {
                    "description": "Seconds after which to try again.",
                    "schema": {"type": "integer"},
                }
            }
    return responses


def _content(answer: Answer) -> dict[str, Any]:
    if not answer.schemas:
        return {}
    examples = {name: {"value": value} for name, value in answer.examples.items()}
    content: dict[str, Any] = {
        "application/json": {"schema": _any_of(answer.schemas), "examples": examples}
    }
    return content | {
        media_type: {"schema": {"type": "string"}, "examples": {"stream": {"value": text}}}
        for media_type, text in answer.streams.items()
    }


def _example(kind: Any) -> dict[str, Any]:
    example = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.explanation,
        "error": kind.explanation,
    }
    if kind.slug == "validation-error":
        text = "An id must be a whole number from 1 to 1000000007."
        example |= {
            "detail": f"/ids/3: {text}",
            "error": f"/ids/3: {text}",
            "errors": [{"pointer": "/ids/3", "detail": text}],
        }
    return example


def _any_of(schemas: tuple[type[Schema], ...]) -> Any:
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def _item_list(converter: Any, described: Any, item_limit: int) -> dict[str, Any]:
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
