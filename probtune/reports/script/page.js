// Helpers of all parts. Texts of records come from strangers: they are set as textContent, never as
// HTML, and the page's policy allows no script but this one.

const RECORD_CODE = 256;

/** Return an element with attributes and children; a text becomes a text node. */
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(node.style, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Return a labelled <select>; `choices` are [value, text]. */
function choice(label, choices, onchange) {
  const select = element("select", { onchange: () => onchange(select.value) });
  for (const [value, text] of choices) select.append(element("option", { value }, text));
  return [element("label", {}, label + " ", select), select];
}

/** Return where a row stands without the folder of its file. */
function shortPlace(where) {
  return where.replace(/^.*[\\/](?=[^\\/]*:\d+$)/, "");
}

/** Offer a text or a blob as a file; nothing leaves the page. */
function save(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const address = URL.createObjectURL(blob);
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** Copy a text, also where the clipboard needs an older way. */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { "aria-hidden": "true", style: { position: "fixed", top: "-10em" } });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.textContent;
  button.textContent = "copied";
  setTimeout(() => (button.textContent = before), 1200);
}

/** Return a number with as many digits as it needs to be told from 0 and from 1. */
function probability(p) {
  if (p >= 0.995) return p > 0.99999 ? "1.000" : p.toFixed(p > 0.9995 ? 5 : 3);
  return p >= 0.01 ? p.toFixed(2) : p < 1e-5 ? "< 1e-5" : p.toPrecision(1);
}

/** Return the page's data: JSON under gzip and base64, so that no text of a record is markup. */
async function pageData() {
  const packed = document.getElementById("data");
  if (!packed) return null;
  const text = atob(packed.textContent.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const printed = [];
for (const [name, printing] of [["beforeprint", true], ["afterprint", false]]) {
  window.addEventListener(name, () => { for (const draw of printed) draw(printing); });
}

/** Call `draw(true)` before the page is printed and `draw(false)` after, in the order of the calls. */
function onPrint(draw) {
  printed.push(draw);
}
