"""Routes that make, change and retire many orchestrations at once: a result for each, the others stay."""

from typing import Any
from uuid import UUID

from pydantic import Field

from chassis.http import Router, Uow
from execution.api.agents_bulk import DeletedOut
from execution.api.orchestrations import CreateOrchestrationIn, OrchestrationOut, UpdateOrchestrationIn, references_of
from execution.usecases import orchestrations
from resources.bodies import In
from resources.bulk import BulkOut, Items, bulk

router = Router("orchestration", prefix="/v1/orchestrations")


class CreateOrchestrationsIn(In):
    """New orchestrations."""

    items: Items[CreateOrchestrationIn]


class UpdateOrchestrationItemIn(UpdateOrchestrationIn):
    """One merge patch: which orchestration, and which version of it is changed."""

    id: UUID
    version: int = Field(ge=1)


class UpdateOrchestrationsIn(In):
    """Merge patches."""

    items: Items[UpdateOrchestrationItemIn]


class DeleteOrchestrationsIn(In):
    """The orchestrations to retire."""

    items: Items[UUID]


@router.post("/bulk-create", permission="orchestration:create")
async def create_orchestrations(uow: Uow, body: CreateOrchestrationsIn) -> BulkOut[OrchestrationOut]:
    """Register many orchestrations."""

    async def create(item: CreateOrchestrationIn) -> OrchestrationOut:
        fields = item.model_dump(include={"description", "team_id", "status"})
        created = await orchestrations.create_orchestration(
            uow,
            config_yaml=item.config_yaml,
            workspace=item.workspace,
            name=item.name,
            agent_ids=references_of(item.agent_ids),
            fields=fields,
        )
        return OrchestrationOut.of(created)

    return BulkOut[OrchestrationOut].of(
        await bulk(uow, body.items, create, operation="create_orchestrations", status=201)
    )


@router.post("/bulk-update", permission="orchestration:update")
async def update_orchestrations(uow: Uow, body: UpdateOrchestrationsIn) -> BulkOut[OrchestrationOut]:
    """Change what is said about many orchestrations."""

    async def update(item: UpdateOrchestrationItemIn) -> OrchestrationOut:
        values: dict[str, Any] = item.model_dump(exclude_unset=True, exclude={"id", "version"})
        return OrchestrationOut.of(
            await orchestrations.update_orchestration(uow, item.id, values, expected_version=item.version)
        )

    return BulkOut[OrchestrationOut].of(await bulk(uow, body.items, update, operation="update_orchestrations"))


@router.post("/bulk-delete", permission="orchestration:delete")
async def delete_orchestrations(uow: Uow, body: DeleteOrchestrationsIn) -> BulkOut[DeletedOut]:
    """Retire many orchestrations."""

    async def delete(orchestration_id: UUID) -> DeletedOut:
        await orchestrations.delete_orchestration(uow, orchestration_id)
        return DeletedOut(id=orchestration_id)

    return BulkOut[DeletedOut].of(await bulk(uow, body.items, delete, operation="delete_orchestrations"))
