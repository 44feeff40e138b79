"""Reasoning on its way through a client that keeps it: ``encrypted_content``. Pure.

A client that keeps its conversation itself gives back what it got, byte for byte. So all that
the model needs to take its own reasoning back travels in it: model, text and signature. A digest
tells what is ours and whole from what another server gave out, which is let go.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from claude_proxy.conversation import Reasoning

DIGEST_SIZE = 8


def seal(reasoning: Reasoning) -> str:
    """Base64 of a digest and the JSON of the reasoning."""
    content = msgspec.json.encode(reasoning)
    return base64.b64encode(digest(content) + content).decode()


def unseal(sealed: str) -> Reasoning | None:
    """None for what ``seal`` has not made."""
    try:
        raw = base64.b64decode(sealed, validate=True)
        given, content = raw[:DIGEST_SIZE], raw[DIGEST_SIZE:]
        return msgspec.json.decode(content, type=Reasoning) if given == digest(content) else None
    except (binascii.Error, ValueError, RecursionError):
        return None


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_SIZE, person=b"claude-proxy").digest()
