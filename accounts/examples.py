"""The first call, in three languages: the text that pages show and people paste."""

from __future__ import annotations

from typing import NamedTuple

from accounts import roles


class Example(NamedTuple):
    slug: str
    label: str
    code: str


def first_call(api_base: str) -> list[Example]:
    """`model: auto` in five lines of each language."""
    return [
        Example("curl", "curl", curl(api_base, "$FAIRLEAD_API_KEY")),
        Example("python", "Python", _python(api_base)),
        Example("javascript", "JavaScript", _javascript(api_base)),
    ]


def curl_of(scope: str, api_base: str, key: str) -> str:
    """A first call that a key of this scope may make."""
    if scope == roles.MANAGEMENT:
        return f'curl {api_base}/keys \\\n  -H "Authorization: Bearer {key}"'
    return curl(api_base, key)


def curl(api_base: str, key: str) -> str:
    return (
        f"curl {api_base}/chat/completions \\\n"
        f'  -H "Authorization: Bearer {key}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        """  -d '{"model": "auto", "route_preference": "balanced",\n"""
        """       "messages": [{"role": "user", "content": "Say hello."}]}'"""
    )


def _python(api_base: str) -> str:
    return (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{api_base}", api_key="fl_live_…")\n'
        'answer = client.chat.completions.create(model="auto",\n'
        '    messages=[{"role": "user", "content": "Say hello."}],\n'
        '    extra_body={"route_preference": "speed"})\n'
        "print(answer.choices[0].message.content, answer.usage.cost)"
    )


def _javascript(api_base: str) -> str:
    return (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{api_base}", apiKey: "fl_live_…" }});\n'
        "const answer = await client.chat.completions.create({\n"
        '  model: "auto", route_preference: "cost",\n'
        '  messages: [{ role: "user", content: "Say hello." }] });\n'
        "console.log(answer.choices[0].message.content, answer.usage.cost);"
    )
