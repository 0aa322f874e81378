import OpenAI from "openai";

const client = new OpenAI({ baseURL: "{{ api_base }}", apiKey: process.env.FAIRLEAD_API_KEY });
try {
  await client.chat.completions.create({
    model: "{{ second }}x",
    messages: [{ role: "user", content: "Say hello." }],
  });
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  console.log(error.status, error.type, error.error.metadata.nearest);
}
