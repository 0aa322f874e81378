"""One real streamed request through our own public API, shown as it arrives, with what it cost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import httpx

from aggregator.embedded.report import Failure, say

_PROMPT = "In one sentence: what does an LLM gateway do?"
_BODY: dict[str, Any] = {
    "model": "auto",
    "route_preference": "balanced",
    "stream": True,
    "max_tokens": 120,
    "messages": [{"role": "user", "content": _PROMPT}],
}


def make(api_base: str, api_key: str) -> None:
    say(f"\n  › {_PROMPT}\n")
    url, headers = f"{api_base}/chat/completions", {"Authorization": f"Bearer {api_key}"}
    try:
        with (
            httpx.Client(timeout=httpx.Timeout(60, connect=5), trust_env=False) as client,
            client.stream("POST", url, headers=headers, json=_BODY) as response,
        ):
            if response.status_code != 200:
                raise Failure(f"the first request got {response.status_code}: {_reason(response.read())}")
            last = _show(response)
            _explain(response.headers, last)
    except httpx.HTTPError as error:
        raise Failure(f"the first request broke: {type(error).__name__} {error}") from error
    say("\n  Repeat it:\n")
    say(f"  curl -N {url} \\")
    say(f'    -H "Authorization: Bearer {api_key}" -H "Content-Type: application/json" \\')
    say(f"    -d {shlex.quote(json.dumps(_BODY))}\n")


def _show(response: httpx.Response) -> dict[str, Any]:
    """Print the answer as it streams, and return the last chunk, which carries the cost."""
    last: dict[str, Any] = {}
    say("  ", end="")
    for line in response.iter_lines():
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            say()
            raise Failure(f"the first request failed in mid-stream: {chunk['error'].get('message')}")
        for choice in chunk.get("choices") or ():
            say((choice.get("delta") or {}).get("content") or "", end="")
        if chunk.get("usage"):
            last = chunk
    say("\n")
    if not last:
        raise Failure("the first request's answer ended without its usage and cost")
    return last


def _explain(headers: Mapping[str, str], last: Mapping[str, Any]) -> None:
    usage = last["usage"]
    endpoint = headers.get("x-fairlead-endpoint") or last.get("provider")
    say(f"  endpoint    {endpoint} ({last.get('model')})")
    if why := headers.get("x-fairlead-reason"):
        say(f"  why         {why}")
    say(f"  tokens      {usage.get('prompt_tokens')} in, {usage.get('completion_tokens')} out")
    say(f"  cost        ${_plain(usage)} ({usage.get('cost_nanos')} nano-dollars)")
    say(f"  generation  {last.get('id')}")


def _plain(usage: Mapping[str, Any]) -> str:
    """The exact cost, from the whole number: a JSON reader's float may show an exponent."""
    nanos = int(usage.get("cost_nanos") or 0)
    return f"{nanos // 1_000_000_000}.{nanos % 1_000_000_000:09d}"


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
