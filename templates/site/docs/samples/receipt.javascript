import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
const messages = [{ role: "user", content: "Say hello." }];
const answer = await client.chat.completions.create({ model: "auto", max_tokens: 8, messages });
const { data } = await client.get(`/generation?id=${answer.id}`);
console.log(data.endpoint, data.parts, data.markup, data.cost_nanos);
