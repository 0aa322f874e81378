import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
const answer = await client.chat.completions.create({
  model: "auto",
  route_preference: "cost",
  max_cost: 0.01,
  route: true,
  provider: { data_collection: "deny", max_price: { completion: 30 } },
  messages: [{ role: "user", content: "Say hello." }],
});
console.log(answer.model, "from", answer.provider, "because:", answer.route.reason);
