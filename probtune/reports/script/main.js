for (const scroll of document.querySelectorAll(".scroll")) {
  scroll.tabIndex = 0;
  addTableButtons(scroll);
}
for (const figure of document.querySelectorAll("figure")) addFigureButtons(figure);
const closed = [];
onPrint((printing) => {
  if (printing) for (const node of document.querySelectorAll("details:not([open])")) { node.open = true; closed.push(node); }
  else while (closed.length) closed.pop().open = false;
});
const data = await pageData();
for (const root of document.querySelectorAll("[data-viewer]")) {
  const part = data.parts[root.dataset.part];
  if (root.dataset.viewer === "tokens") tokenViewer(root, part.tokens, data.grid);
  else itemBrowser(root, { ...part.items[root.dataset.list], texts: data.texts });
}
document.documentElement.dataset.ready = "true";
