"""As much of JSON Schema as the OpenAPI document uses: making instances for hypothesis, and checking answers."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_TYPES = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
_PLAIN = {"type", "description", "title", "default", "$ref", "anyOf", "enum", "pattern", "minimum", "maximum"}
_KNOWN = _PLAIN | {"minLength", "maxLength", "items", "prefixItems", "minItems", "maxItems", "properties", "required"}
_ALL = _KNOWN | {"additionalProperties", "propertyNames", "maxProperties", "format"}


class Document:
    """Resolves references within an OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def resolve(self, schema: Schema) -> Schema:
        assert not schema.keys() - _ALL, f"a keyword that this test does not know: {schema.keys() - _ALL}"
        if "$ref" not in schema:
            return schema
        found: Any = self._document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return self.resolve(found)

    def instances(self, schema: Schema) -> st.SearchStrategy[Any]:
        """Values that satisfy a schema."""
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return st.one_of([self.instances(kind) for kind in schema["anyOf"]])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kind = schema.get("type")
        if kind == "object":
            return self._objects(schema)
        if kind == "array":
            return self._arrays(schema)
        if kind == "string" and "pattern" in schema:
            return st.from_regex(schema["pattern"].replace("$", r"\Z"))
        limits = {"min_value": schema.get("minimum", 0), "max_value": schema.get("maximum", 2**31)}
        simple: dict[str | None, st.SearchStrategy[Any]] = {
            "string": st.text(max_size=min(schema.get("maxLength", 20), 20))
            | st.sampled_from(["10.1.0.0/16", "10.1.0.5", "fd00::1", "accept;", "ACTION_ACCEPT"]),
            "integer": st.integers(**limits),
            "boolean": st.booleans(),
            "null": st.none(),
            None: ANYTHING,
        }
        return simple[kind]

    def _objects(self, schema: Schema) -> st.SearchStrategy[Any]:
        required = set(schema.get("required", ()))
        fields = {name: self.instances(kind) for name, kind in schema.get("properties", {}).items()}
        extra = schema.get("additionalProperties", True)
        if fields or extra is False:
            chosen = {name: kind for name, kind in fields.items() if name in required}
            return st.fixed_dictionaries(chosen, optional={n: k for n, k in fields.items() if n not in required})
        names = self.instances({"type": "string", **schema.get("propertyNames", {})})
        return st.dictionaries(names, ANYTHING if extra is True else self.instances(extra), max_size=3)

    def _arrays(self, schema: Schema) -> st.SearchStrategy[Any]:
        if "prefixItems" in schema:
            return st.tuples(*map(self.instances, schema["prefixItems"])).map(list)
        return st.lists(self.instances(schema.get("items", {})), max_size=min(schema.get("maxItems", 3), 3))

    def check(self, value: Any, schema: Schema, where: str = "$") -> None:
        """Assert that a value satisfies a schema."""
        schema = self.resolve(schema)
        if "anyOf" in schema:
            assert any(self._fits(value, kind) for kind in schema["anyOf"]), where
            return
        if "enum" in schema:
            assert value in schema["enum"], where
        kind = schema.get("type")
        if kind == "integer":
            assert isinstance(value, int) and not isinstance(value, bool), where
            assert schema.get("minimum", value) <= value <= schema.get("maximum", value), where
        elif kind is not None:
            assert isinstance(value, _TYPES[kind]), where
        if kind == "string":
            assert len(value) <= schema.get("maxLength", len(value)), where
            assert re.search(schema.get("pattern", ""), value), where
        elif kind == "array":
            assert len(value) <= schema.get("maxItems", len(value)), where
            kinds = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
            for at, (element, inner) in enumerate(zip(value, kinds, strict=True)):
                self.check(element, inner, f"{where}[{at}]")
        elif kind == "object":
            self._check_object(value, schema, where)

    def _check_object(self, value: dict[str, Any], schema: Schema, where: str) -> None:
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
        assert set(schema.get("required", ())) <= value.keys(), where
        for name, element in value.items():
            assert name in properties or extra is not False, f"{where}.{name}"
            self.check(element, properties.get(name, extra if isinstance(extra, dict) else {}), f"{where}.{name}")

    def _fits(self, value: Any, schema: Schema) -> bool:
        try:
            self.check(value, schema)
        except AssertionError:
            return False
        return True
