import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
const answer = await client.chat.completions.create({
  model: "{{ first }}",
  models: ["{{ second }}", "{{ third }}"],
  messages: [{ role: "user", content: "Say hello." }],
});
console.log(answer.model);
