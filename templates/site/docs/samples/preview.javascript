import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
const body = { model: "auto", messages: [{ role: "user", content: "Say hello." }] };
const preview = await client.post("/route", { body });
console.log(preview.endpoint, preview.cost, preview.reason);
