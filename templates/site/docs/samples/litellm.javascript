import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "{{ api_base }}", // was http://0.0.0.0:4000
  apiKey: process.env.FAIRLEAD_API_KEY, // was a virtual key
});
const answer = await client.chat.completions.create({
  model: "{{ first }}",
  models: ["{{ second }}"], // was the proxy's `fallbacks`
  messages: [{ role: "user", content: "Say hello." }],
});
console.log(answer.model, answer.usage.cost);
