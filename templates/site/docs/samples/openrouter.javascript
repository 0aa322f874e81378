import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "{{ api_base }}", // was https://openrouter.ai/api/v1
  apiKey: process.env.FAIRLEAD_API_KEY,
});
const answer = await client.chat.completions.create({
  model: "openrouter/auto",
  provider: { data_collection: "deny", sort: "throughput" },
  messages: [{ role: "user", content: "Say hello." }],
});
console.log(answer.model, answer.provider, answer.usage.cost);
