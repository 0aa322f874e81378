"""Calls of one model as people paste them, in three languages. Pure; the texts are what pages show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    slug: str
    label: str
    code: str


def calls(api_base: str, model: str, order: Sequence[str] = ()) -> list[Sample]:
    """`order`: slugs of providers to try first, in this order."""
    return [
        Sample("curl", "curl", _curl(api_base, model, order)),
        Sample("python", "Python", _python(api_base, model, order)),
        Sample("javascript", "JavaScript", _javascript(api_base, model, order)),
    ]


def _curl(api_base: str, model: str, order: Sequence[str]) -> str:
    chosen = f',\n       "provider": {{"order": {json.dumps(list(order))}}}' if order else ""
    return (
        f"curl {api_base}/chat/completions \\\n"
        '  -H "Authorization: Bearer $FAIRLEAD_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"""  -d '{{"model": "{model}",\n"""
        f"""       "messages": [{{"role": "user", "content": "Say hello."}}]{chosen}}}'"""
    )


def _python(api_base: str, model: str, order: Sequence[str]) -> str:
    chosen = f',\n    extra_body={{"provider": {{"order": {json.dumps(list(order))}}}}}' if order else ""
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{api_base}", api_key=os.environ["FAIRLEAD_API_KEY"])\n'
        f'answer = client.chat.completions.create(\n    model="{model}",\n'
        f'    messages=[{{"role": "user", "content": "Say hello."}}]{chosen})\n'
        "print(answer.choices[0].message.content, answer.usage.cost)"
    )


def _javascript(api_base: str, model: str, order: Sequence[str]) -> str:
    chosen = f",\n  provider: {{ order: {json.dumps(list(order))} }}" if order else ""
    return (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{api_base}", apiKey: process.env.FAIRLEAD_API_KEY }});\n'
        "const answer = await client.chat.completions.create({\n"
        f'  model: "{model}",\n'
        f'  messages: [{{ role: "user", content: "Say hello." }}]{chosen} }});\n'
        "console.log(answer.choices[0].message.content, answer.usage.cost);"
    )
