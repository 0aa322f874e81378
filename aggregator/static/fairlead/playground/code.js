// A request as code that anybody can run: curl, Python, JavaScript. The key is a variable of the reader's.
const KEY = "FAIRLEAD_API_KEY";
const OURS = new Set(["route_preference", "max_cost", "provider"]);

export function curl(base, body) {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl -N ${base}/chat/completions \\\n  -H "Authorization: Bearer $${KEY}" \\\n  -H "Content-Type: application/json" \\\n  -d '${json}'`;
}

/** A JSON value as Python writes it. */
function literal(value, indent = "    ") {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return value.length ? `[\n${value.map((each) => `${indent}    ${literal(each, `${indent}    `)},\n`).join("")}${indent}]` : "[]";
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, indent)}`).join(", ")}}`;
  return JSON.stringify(value);
}

export function python(base, body) {
  const own = Object.entries(body).filter(([name]) => !OURS.has(name));
  const ours = Object.fromEntries(Object.entries(body).filter(([name]) => OURS.has(name)));
  const lines = own.map(([name, value]) => `    ${name}=${literal(value)},\n`);
  if (Object.keys(ours).length) lines.push(`    extra_body=${literal(ours)},\n`);
  return `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${base}", api_key=os.environ["${KEY}"])\nstream = client.chat.completions.create(\n${lines.join("")})\nfor chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)\n    if chunk.usage:\n        print("\\n", chunk.usage.cost)\n`;
}

export function javascript(base, body) {
  const json = JSON.stringify(body, null, 2);
  return `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${base}", apiKey: process.env.${KEY} });\nconst stream = await client.chat.completions.create(${json});\nfor await (const chunk of stream) {\n  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n  if (chunk.usage) console.log("\\n", chunk.usage.cost);\n}\n`;
}

export function fill(base, body) {
  const made = { curl: curl(base, body), python: python(base, body), javascript: javascript(base, body) };
  for (const [language, text] of Object.entries(made)) document.getElementById(`sent-${language}`).textContent = text;
}
