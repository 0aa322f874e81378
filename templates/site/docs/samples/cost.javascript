import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
const body = { model: "{{ first }}", usage: { prompt_tokens: 1200, completion_tokens: 350 } };
const found = await client.post("/cost", { body });
for (const each of found.endpoints) console.log(each.endpoint, each.total);
