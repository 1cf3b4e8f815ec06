// Tables copy as CSV and Markdown; charts are saved as SVG and PNG.

function cellsOf(table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim().replace(/\s+/g, " ")));
}

function asCsv(cells) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  // a spreadsheet runs what begins with =, +, - or @ unless it is a number
  const safe = (text) => (/^[=@\t\r]|^[+-](?![\d.])/.test(text) ? "'" + text : text);
  return cells.map((row) => row.map((text) => quoted(safe(text))).join(",")).join("\n") + "\n";
}

function asMarkdown(cells) {
  const line = (row) => `| ${row.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(cells[0]), `|${cells[0].map(() => "---").join("|")}|`, ...cells.slice(1).map(line)].join("\n") + "\n";
}

function addTableButtons(scroll) {
  const table = scroll.querySelector("table");
  if (!table) return;
  const button = (name, write) => {
    const node = element("button", { type: "button", class: "small", onclick: () => copy(write(cellsOf(table)), node) }, name);
    return node;
  };
  scroll.after(element("p", { class: "tools" }, button("Copy CSV", asCsv), button("Copy Markdown", asMarkdown)));
}

/** Return the SVG alone, with the colours of the light page. */
function aloneSvg(svg) {
  const clone = svg.cloneNode(true);
  const box = svg.viewBox.baseVal;
  clone.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  clone.setAttribute("width", box.width);
  clone.setAttribute("height", box.height);
  clone.removeAttribute("style");
  return new XMLSerializer().serializeToString(clone).replace(/var\(--[\w-]+,\s*([^)]+)\)/g, "$1");
}

async function svgToPng(text, width, height) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  await image.decode();
  const canvas = element("canvas", { width: 2 * width, height: 2 * height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function addFigureButtons(figure) {
  const svg = figure.querySelector("svg");
  if (!svg) return;
  const name = (svg.getAttribute("aria-label") || "chart").replace(/[^\w]+/g, "-").slice(0, 60);
  figure.append(element("p", { class: "tools" },
    element("button", { type: "button", class: "small", onclick: () => save(`${name}.svg`, aloneSvg(svg), "image/svg+xml") }, "SVG"),
    element("button", { type: "button", class: "small", onclick: async () => save(`${name}.png`, await svgToPng(aloneSvg(svg), svg.viewBox.baseVal.width, svg.viewBox.baseVal.height)) }, "PNG")));
}
