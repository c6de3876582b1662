"""Keys and tokens: who signed this? One Ed25519 key per service and use; one trust file says which key is whose."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, OKPKey

from chassis.caller import Caller
from chassis.errors import UnauthenticatedError

TOKEN_SECONDS = 60
SKEW_SECONDS = 30
_CACHED = 8192


@dataclass(frozen=True)
class Signer:
    """A private key; `kid` is the start of its public key's SHA-256, so a key names itself."""

    private: Ed25519PrivateKey
    kid: str

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> Self:
        """The signer of a key in memory."""
        return cls(private, key_id(private.public_key()))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The signer of a PEM file; PermissionError when others may read it."""
        if path.stat().st_mode & 0o077:
            msg = f"{path} may be read by others: chmod 600 {path}"
            raise PermissionError(msg)
        private = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            msg = f"{path} is no Ed25519 key"
            raise TypeError(msg)
        return cls.of(private)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self.private.sign(message)

    def jwk(self) -> OKPKey:
        """The key as JOSE wants it."""
        pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return OKPKey.import_key(pem)


def key_id(public: Ed25519PublicKey) -> str:
    """The name of a public key: 16 hex digits of its SHA-256."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


@dataclass(frozen=True)
class TrustedKey:
    """One line of the trust file."""

    service: str
    use: str
    """token, attest or seal."""
    public: Ed25519PublicKey


class Trust:
    """The public keys of all services, and what each may sign."""

    def __init__(self, keys: Mapping[str, TrustedKey]) -> None:
        self.keys = dict(keys)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `{kid: {service, use, public_key}}`; public keys are base64 of their 32 raw bytes."""
        lines: dict[str, dict[str, str]] = orjson.loads(path.read_bytes())
        return cls({
            kid: TrustedKey(
                line["service"], line["use"], Ed25519PublicKey.from_public_bytes(base64.b64decode(line["public_key"]))
            )
            for kid, line in lines.items()
        })  # fmt: skip

    def verify(self, kid: str, message: bytes, signature: bytes, *, service: str, use: str) -> bool:
        """Whether this service signed these bytes with a key meant for this use."""
        key = self.keys.get(kid)
        if key is None or key.service != service or key.use != use:
            return False
        try:
            key.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def write_keys(directory: Path, uses: Mapping[str, tuple[str, ...]]) -> Path:
    """Make the keys that are missing (`<service>.<use>.pem`, mode 0600) and the trust file of all; returns its path."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    trust: dict[str, dict[str, str]] = {}
    for service, service_uses in uses.items():
        for use in service_uses:
            path = directory / f"{service}.{use}.pem"
            if not path.exists():
                pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                path.touch(mode=0o600)
                path.write_bytes(pem)
            public = Signer.read(path).private.public_key()
            raw = base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
            trust[key_id(public)] = {"service": service, "use": use, "public_key": raw}
    target = directory / "trust.json"
    target.write_bytes(orjson.dumps(trust, option=orjson.OPT_INDENT_2))
    return target


class TokenIssuer:
    """Makes the edge's internal tokens; one is reused for half its life: a signature costs more than a look-up."""

    def __init__(self, signer: Signer) -> None:
        self._key, self._kid = signer.jwk(), signer.kid
        self._made: dict[tuple[str, str, UUID, frozenset[str]], tuple[float, str]] = {}

    def issue(self, caller: Caller, audience: str) -> str:
        """A token that says who is asking, good for one service and one minute."""
        now = time.time()
        cached = self._made.get(key := (audience, caller.id, caller.organization_id, caller.roles | caller.scopes))
        if cached and cached[0] > now:
            return cached[1]
        claims: dict[str, Any] = {
            "aud": audience,
            "exp": int(now) + TOKEN_SECONDS,
            "org": str(caller.organization_id),
            "kind": caller.kind,
            "sub": caller.id,
            "usr": str(caller.user_id) if caller.user_id else None,
            "roles": sorted(caller.roles),
            "scopes": sorted(caller.scopes),
        }
        token = jwt.encode({"alg": "Ed25519", "kid": self._kid}, claims, self._key, algorithms=["Ed25519"])
        if len(self._made) >= _CACHED:
            self._made.clear()
        self._made[key] = (now + TOKEN_SECONDS / 2, token)
        return token


class TokenVerifier:
    """Reads internal tokens; a verified one is remembered by its hash until it expires."""

    def __init__(self, trust: Trust, audience: str) -> None:
        self._audience = audience
        self._keys: dict[str, OKPKey] = {
            kid: OKPKey.import_key(key.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            for kid, key in trust.keys.items()
            if key.use == "token"
        }
        self._seen: dict[bytes, tuple[float, Caller]] = {}

    def verify(self, token: str) -> Caller:
        """Who is asking; UnauthenticatedError for anything but a live token of the edge for this service."""
        digest = hashlib.sha256(token.encode()).digest()
        now = time.time()
        seen = self._seen.get(digest)
        if seen and seen[0] > now:
            return seen[1]
        claims = self._claims(token)
        if claims.get("aud") != self._audience or claims.get("exp", 0) < now - SKEW_SECONDS:
            raise UnauthenticatedError("This internal token is not for this service, or it is over.")
        caller = Caller(
            organization_id=UUID(claims["org"]),
            kind=claims["kind"],
            id=claims["sub"],
            user_id=UUID(claims["usr"]) if claims.get("usr") else None,
            roles=frozenset(claims["roles"]),
            scopes=frozenset(claims["scopes"]),
        )
        if len(self._seen) >= _CACHED:
            self._seen.clear()
        self._seen[digest] = (claims["exp"] + SKEW_SECONDS, caller)
        return caller

    def _claims(self, token: str) -> dict[str, Any]:
        def key_for(guest: GuestProtocol) -> OKPKey:
            return self._keys[str(guest.headers().get("kid"))]

        try:
            return jwt.decode(token, key_for, algorithms=["Ed25519"]).claims
        except (JoseError, KeyError, ValueError) as error:
            raise UnauthenticatedError("This internal token was not made by the edge.") from error


def traced(caller: Caller, traceparent: str, correlation_id: str) -> Caller:
    """The caller of one request: who it is comes from the token, what it belongs to from the request."""
    return replace(caller, traceparent=traceparent, correlation_id=correlation_id)
