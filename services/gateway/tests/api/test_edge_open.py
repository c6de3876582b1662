from __future__ import annotations

import pytest
from services.gateway.tests.factories import EdgeStage, Played

pytestmark = pytest.mark.anyio


def _document(**schemas: object) -> dict[str, object]:
    return {
        "paths": {f"/v1/{'-'.join(schemas).lower()}": {"get": {"$ref": "#/components/schemas/Thing"}}},
        "components": {"schemas": schemas},
    }


async def test_it_says_what_it_is_and_that_it_lives(stage: EdgeStage) -> None:
    stage.play()
    assert (await stage.get(None, "/")).json()["name"] == "Remit"
    assert (await stage.get(None, "/healthz")).json() == {"alive": True}
    assert (await stage.get(None, "/readyz")).json() == {"ready": True}
    assert (await stage.client(None).post("/")).status == 404
    assert (await stage.get(None, "/metrics")).status == 404


async def test_one_document_of_all_services(stage: EdgeStage) -> None:
    identity = Played({"/openapi.json": (200, _document(Thing={"type": "string"}, Same={"type": "null"}))})
    billing = Played({"/openapi.json": (200, _document(Thing={"type": "integer"}, Same={"type": "null"}, Own={}))})
    stage.play(identity=identity, billing=billing)
    document = (await stage.get(None, "/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert (schemas["IdentityThing"], schemas["BillingThing"]) == ({"type": "string"}, {"type": "integer"})
    assert {"Same", "Own", "GatewayOut", "ProblemOut"} <= schemas.keys()
    assert "Thing" not in schemas
    assert document["paths"]["/v1/thing-same"]["get"]["$ref"] == "#/components/schemas/IdentityThing"
    assert document["paths"]["/v1/thing-same-own"]["get"]["$ref"] == "#/components/schemas/BillingThing"
    assert "/v1/gateways/{gateway_id}" in document["paths"]
    await stage.get(None, "/openapi.json")
    assert len(identity.asked) == 1
    assert "authorization" not in identity.asked[0]["headers"]
