"""The one client for every URL a caller supplies: its address is judged and pinned, and no redirect is followed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socket import AddressFamily

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from opentelemetry.trace import SpanKind
from yarl import URL

from chassis.addresses import Network, is_public, parse_address
from chassis.errors import InvalidError
from chassis.telemetry import current_traceparent, span

CONNECT_SECONDS = 5.0
MAX_BYTES = 4 * 1024 * 1024
_KEEP_ALIVE_SECONDS = 4.0  # under the 5 s of common servers, so that no request meets a socket being closed
_OURS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "traceparent"}


class OutboundRefusedError(InvalidError):
    """This URL may not be called from here, and asking again changes nothing."""

    code = "url_refused"


class OutboundFailedError(Exception):
    """An allowed call did not succeed; `code` says how, and nothing that was sent is in it."""

    def __init__(self, code: str, *, retryable: bool) -> None:
        super().__init__(code)
        self.code = code
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutboundStream:
    """An answer whose body is still arriving."""

    def __init__(self, response: aiohttp.ClientResponse, max_bytes: int) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._max_bytes = max_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, up to the limit of the client."""
        seen = 0
        with _failures():
            async for chunk in self._response.content.iter_any():
                seen += len(chunk)
                if seen > self._max_bytes:
                    raise OutboundFailedError("too_large", retryable=False)
                yield chunk

    def close(self) -> None:
        """Let go; a connection whose answer was not read to its end is dropped."""
        self._response.close()


class OutboundClient:
    """Calls URLs that callers supply; `allow` lists the networks and the `host:port` that the operator opens."""

    def __init__(
        self,
        service: str,
        *,
        allow: Collection[Network | str] = (),
        max_bytes: int = MAX_BYTES,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._service = service
        self._names = frozenset(entry for entry in allow if isinstance(entry, str))
        self._networks = tuple(entry for entry in allow if not isinstance(entry, str))
        self._max_bytes = max_bytes
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    def check_url(self, url: str) -> URL:
        """The URL as it will be called, or OutboundRefusedError; the host's name is judged when it is resolved."""
        try:
            parsed = URL(url)
            host, port = parsed.host or "", parsed.port or 0
        except ValueError:
            raise OutboundRefusedError("This is not a URL.") from None
        if parsed.scheme not in {"http", "https"} or not host or not port or "@" in parsed.raw_authority:
            raise OutboundRefusedError("A URL to call is http or https, has a host, and carries no user or password.")
        if parse_address(host):
            self.check_address(host, port, host)
        return parsed

    def check_address(self, host: str, port: int, address: str) -> None:
        """OutboundRefusedError unless this host may be called at this address."""
        found = parse_address(address)
        if f"{host}:{port}" in self._names or f"[{host}]:{port}" in self._names:
            return
        if found is None or not (is_public(found) or any(found in network for network in self._networks)):
            raise OutboundRefusedError("This URL leads to an address that the operator has not opened.")

    async def open(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, seconds: float, traceparent: str = ""
    ) -> OutboundStream:
        """Send a request and give back its answer once the head is there; `seconds` bound all of it, body included."""
        target = self.check_url(url)
        if len(body) > self._max_bytes:
            raise OutboundFailedError("too_large", retryable=False)
        sent = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        timeout = aiohttp.ClientTimeout(total=seconds, connect=min(CONNECT_SECONDS, seconds))
        with span(f"{method} {target.host}", service=self._service, traceparent=traceparent, kind=SpanKind.CLIENT):
            sent |= {"Accept-Encoding": "identity", "traceparent": current_traceparent(traceparent)}
            with _failures():
                answer = await self._opened().request(
                    method, target, headers={k: v for k, v in sent.items() if v}, data=body, timeout=timeout,
                    allow_redirects=False,
                )  # fmt: skip
        if 300 <= answer.status < 400 or answer.headers.get("Content-Encoding", "identity") != "identity":
            answer.close()
            raise OutboundFailedError("redirected" if 300 <= answer.status < 400 else "encoded", retryable=False)
        return OutboundStream(answer, self._max_bytes)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, seconds: float, traceparent: str = ""
    ) -> OutboundAnswer:
        """Send a request and give back its whole answer."""
        stream = await self.open(method, url, headers=headers, body=body, seconds=seconds, traceparent=traceparent)
        try:
            whole = b"".join([chunk async for chunk in stream.chunks()])
        finally:
            stream.close()
        return OutboundAnswer(stream.status, stream.headers, whole)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = _Pinned(self.check_address, self._resolver or aiohttp.ThreadedResolver())
            connector = aiohttp.TCPConnector(
                resolver=resolver, use_dns_cache=False, limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session


class _Pinned(AbstractResolver):
    """Resolves for one connection, which then goes to exactly the addresses judged here: nothing asks DNS again."""

    def __init__(self, check: Callable[[str, int, str], None], inner: AbstractResolver) -> None:
        self._check = check
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for each in found:
            self._check(host, port, each["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise OutboundFailedError("connect_timeout", retryable=True) from None
    except TimeoutError:
        raise OutboundFailedError("timeout", retryable=True) from None
    except aiohttp.InvalidURL:
        raise OutboundRefusedError("This is not a URL that can be called.") from None
    except aiohttp.ClientSSLError:
        raise OutboundFailedError("tls", retryable=False) from None
    except aiohttp.ClientConnectorError:
        raise OutboundFailedError("unreachable", retryable=True) from None
    except (aiohttp.ClientError, OSError):
        raise OutboundFailedError("broken", retryable=True) from None
    except ValueError:
        raise OutboundFailedError("invalid_request", retryable=False) from None
