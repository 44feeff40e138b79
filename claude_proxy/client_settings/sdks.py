"""Programs of one's own, with the packages of OpenAI and Anthropic."""

from __future__ import annotations

import json

from claude_proxy.client_settings.snippet import Endpoint, Snippet


def openai(endpoint: Endpoint) -> Snippet:
    text = f"""\
import shlex
import subprocess

from openai import OpenAI

key = subprocess.check_output(shlex.split({json.dumps(endpoint.key_command)}), text=True).strip()
client = OpenAI(base_url={json.dumps(endpoint.openai)}, api_key=key)
"""
    return Snippet("openai", "OpenAI SDK for Python", "your program", "python", text)
