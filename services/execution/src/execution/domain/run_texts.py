"""The text of a step's answer while it is written: bounded, in pieces that a watcher can put together again."""

from __future__ import annotations

from typing import NamedTuple

MAX_STEP_BYTES = 64 * 1024
"""What watchers are told of one attempt at most; the answer itself is with the step, whole."""


class Piece(NamedTuple):
    """Some text, and after how many characters it goes; from 0 on it replaces what came before."""

    at: int
    text: str
    is_cut: bool
    """Whether nothing more is told, although more may be written."""


class TextPieces:
    """Gathers what is written until somebody takes it."""

    def __init__(self) -> None:
        self._gathered: list[str] = []
        self._at = 0
        self._left = MAX_STEP_BYTES
        self._is_cut = False

    def add(self, text: str) -> bool:
        """More was written, or with an empty text: what was written is void. Whether there is something to take."""
        if not text:
            self._gathered.clear()
            self._at = 0
            return False
        if self._is_cut:
            return False
        content = text.encode("utf-8", "replace")
        if len(content) > self._left:
            content, self._is_cut = content[: self._left], True
        self._left -= len(content)
        self._gathered.append(content.decode("utf-8", "ignore"))
        return True

    def take(self) -> Piece:
        """What was added since it was last asked."""
        piece = Piece(self._at, "".join(self._gathered), self._is_cut)
        self._at += len(piece.text)
        self._gathered.clear()
        return piece
