"""Keys of model providers: stored sealed, used by workers, never shown again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from chassis.errors import InvalidError, UnavailableError
from chassis.ids import new_id
from chassis.sealing import Keyring, Sealed
from chassis.uow import UnitOfWork
from contracts.execution import (
    ModelCredentialCreated,
    ModelCredentialDeleted,
    ModelCredentialUpdated,
)
from execution.domain.model_choices import address_fault
from execution.tables.model_credentials import ModelCredential
from resources.listing import Resource, counter, lister
from resources.patches import apply_patch, told, touch
from resources.versions import require_version

MODEL_CREDENTIALS = Resource(
    ModelCredential,
    filters=("id", "name", "provider", "created_by", "created_at", "updated_at"),
    sorts=("created_at", "updated_at", "name"),
)
list_model_credentials = lister(MODEL_CREDENTIALS)
count_model_credentials = counter(MODEL_CREDENTIALS)
TAKEN = "A provider key of this name is already here."
HINT_CHARACTERS = 4


async def create_model_credential(
    uow: UnitOfWork, keyring: Keyring | None, *, name: str, provider: str, secret: str, base_url: str | None
) -> ModelCredential:
    """Store a provider's key; only workers ever see it again, and send it to this provider and address alone."""
    _require_address(provider, base_url)
    credential_id = new_id()
    sealed = _require(keyring).seal(secret.encode(), _place(uow.organization_id, credential_id))
    credential = ModelCredential(
        id=credential_id,
        organization_id=uow.organization_id,
        name=name,
        provider=provider,
        base_url=base_url,
        ciphertext=sealed.ciphertext,
        wrapped_key=sealed.wrapped_key,
        kek_id=sealed.kek_id,
        hint=hint_of(secret),
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(credential, conflict=TAKEN)
    uow.emit(ModelCredentialCreated.of(credential))
    return credential


async def get_model_credential(uow: UnitOfWork, credential_id: UUID) -> ModelCredential:
    """What is known of a provider key, without the key."""
    return await uow.get(ModelCredential, credential_id)


async def update_model_credential(
    uow: UnitOfWork,
    keyring: Keyring | None,
    credential_id: UUID,
    values: Mapping[str, Any],
    *,
    expected_version: int | None,
) -> ModelCredential:
    """Rename a provider key or replace the key itself (`secret`), and only with it the address it may be sent to."""
    credential = await uow.get(ModelCredential, credential_id, lock=True)
    require_version(credential.version, expected_version)
    plain = {name: value for name, value in values.items() if name != "secret"}
    changes = told(apply_patch(uow, credential, plain))
    _require_address(credential.provider, credential.base_url)
    if "base_url" in changes and not values.get("secret"):
        raise InvalidError("A key goes to another address only when it is given again.", code="secret_needed")
    if secret := values.get("secret"):
        sealed = _require(keyring).seal(secret.encode(), _place(credential.organization_id, credential.id))
        credential.ciphertext, credential.wrapped_key = sealed.ciphertext, sealed.wrapped_key
        credential.kek_id = sealed.kek_id
        hint = credential.hint
        credential.hint = hint_of(secret)
        if not changes:
            touch(uow, credential)
        changes |= {"secret": ["replaced", "replaced"], "hint": [hint, credential.hint]}
    if not changes:
        return credential
    await uow.add(credential, conflict=TAKEN)
    uow.emit(ModelCredentialUpdated.of(credential, changes=changes))
    return credential


async def delete_model_credential(uow: UnitOfWork, credential_id: UUID) -> None:
    """Destroy a provider key; agents that use it fail from now on."""
    credential = await uow.get(ModelCredential, credential_id, lock=True)
    await uow.delete(credential)
    uow.emit(ModelCredentialDeleted.of(credential))


def open_credential(keyring: Keyring, row: Mapping[str, Any]) -> str:
    """The key in a row (its columns by name); UnsealError when it was changed or belongs to another row."""
    sealed = Sealed(row["ciphertext"], row["wrapped_key"], row["kek_id"])
    return keyring.open(sealed, _place(row["organization_id"], row["id"])).decode()


def hint_of(secret: str) -> str:
    """What of a key may be shown: its last four characters, and none of a short one."""
    return secret[-HINT_CHARACTERS:] if len(secret) >= 4 * HINT_CHARACTERS else ""


def _place(organization_id: UUID, credential_id: UUID) -> str:
    return f"{organization_id}/model_credential/{credential_id}"


def _require_address(provider: str, base_url: str | None) -> None:
    if fault := address_fault(provider, base_url):
        raise InvalidError(f"A key is sent to one address only: {fault}.", code="invalid_base_url")


def _require(keyring: Keyring | None) -> Keyring:
    if keyring is None:
        raise UnavailableError(
            "Provider keys can't be stored: the operator set no keyring (REMIT_EXECUTION_KEY_ENCRYPTION_FILE).",
            code="no_keyring",
        )
    return keyring
