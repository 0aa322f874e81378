import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
const headers = { "Idempotency-Key": crypto.randomUUID() };
const ask = { model: "auto", max_tokens: 20, messages: [{ role: "user", content: "Say hello." }] };
const first = await client.chat.completions.create(ask, { headers });
const again = await client.chat.completions.create(ask, { headers });
console.log(again.id === first.id, again.usage.cost);
