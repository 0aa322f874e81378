import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
const stream = await client.chat.completions.create({
  model: "auto",
  stream: true,
  max_tokens: 60,
  messages: [{ role: "user", content: "Say hello." }],
});
for await (const chunk of stream) {
  if (chunk.choices.length) process.stdout.write(chunk.choices[0].delta.content ?? "");
  else if (chunk.usage) console.log("\ncost:", chunk.usage.cost);
}
