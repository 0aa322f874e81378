"""The first call, in three languages: the text that pages show and people paste."""

from __future__ import annotations

from typing import NamedTuple

from accounts.core import roles

_SOME_KEY = "fl_live_…"


class Example(NamedTuple):
    slug: str
    label: str
    code: str


def first_call(api_base: str, *, key: str = "", model: str = "auto") -> list[Example]:
    """One call in five lines of each language; without a key, with what stands for it."""
    return [
        Example("curl", "curl", curl(api_base, key or "$FAIRLEAD_API_KEY", model)),
        Example("python", "Python", _python(api_base, key or _SOME_KEY, model)),
        Example("javascript", "JavaScript", _javascript(api_base, key or _SOME_KEY, model)),
    ]


def curl_of(scope: str, api_base: str, key: str) -> str:
    """A first call that a key of this scope may make."""
    if scope == roles.MANAGEMENT:
        return f'curl {api_base}/keys \\\n  -H "Authorization: Bearer {key}"'
    return curl(api_base, key)


def curl(api_base: str, key: str, model: str = "auto") -> str:
    return (
        f"curl {api_base}/chat/completions \\\n"
        f'  -H "Authorization: Bearer {key}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"""  -d '{{"model": "{model}", "route_preference": "balanced",\n"""
        """       "messages": [{"role": "user", "content": "Say hello."}]}'"""
    )


def _python(api_base: str, key: str, model: str) -> str:
    return (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{api_base}", api_key="{key}")\n'
        f'answer = client.chat.completions.create(model="{model}",\n'
        '    messages=[{"role": "user", "content": "Say hello."}],\n'
        '    extra_body={"route_preference": "speed"})\n'
        "print(answer.choices[0].message.content, answer.usage.cost)"
    )


def _javascript(api_base: str, key: str, model: str) -> str:
    return (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{api_base}", apiKey: "{key}" }});\n'
        "const answer = await client.chat.completions.create({\n"
        f'  model: "{model}", route_preference: "cost",\n'
        '  messages: [{ role: "user", content: "Say hello." }] });\n'
        "console.log(answer.choices[0].message.content, answer.usage.cost);"
    )
