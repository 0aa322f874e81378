import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "{{ api_base }}", // this line is new
  apiKey: process.env.FAIRLEAD_API_KEY,
});
const messages = [{ role: "user", content: "Say hello." }];
const answer = await client.chat.completions.create({ model: "auto", messages });
console.log(answer.choices[0].message.content);
