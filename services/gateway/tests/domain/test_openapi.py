from __future__ import annotations

from gateway.domain.openapi import merge


def test_a_name_clashes_through_what_it_refers_to() -> None:
    def service(leaf: str) -> dict[str, object]:
        page = {"items": {"$ref": "#/components/schemas/Leaf"}}
        return {"paths": {}, "components": {"schemas": {"Page": page, "Leaf": {"type": leaf}}}}

    schemas = merge({"audit": service("string"), "policy": service("integer")}, "1", {})["components"]["schemas"]
    assert schemas["AuditPage"] == {"items": {"$ref": "#/components/schemas/AuditLeaf"}}
    assert schemas["PolicyPage"] == {"items": {"$ref": "#/components/schemas/PolicyLeaf"}}
    assert not {"Page", "Leaf"} & schemas.keys()
