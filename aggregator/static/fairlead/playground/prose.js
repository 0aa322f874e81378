// An answer as nodes: text, and blocks of code between fences. Never HTML.
const FENCE = /^```[^\n]*\n([\s\S]*?)(?:^```[ \t]*$\n?|(?![\s\S]))/gm;

export function show(place, text) {
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(FENCE)) {
    if (found.index > from) parts.push(text.slice(from, found.index).trimEnd());
    const block = document.createElement("pre");
    block.tabIndex = 0;
    block.append(Object.assign(document.createElement("code"), { textContent: found[1] }));
    parts.push(block);
    from = found.index + found[0].length;
  }
  parts.push(text.slice(from));
  place.replaceChildren(...parts.filter((part) => part !== ""));
}
