const waiting = [...document.querySelectorAll("[data-viewer]")];
let data = null;
onPrint(() => { while (data && waiting.length) openViewer(); });
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
data = await pageData();
function openViewer() {
  const root = waiting.shift(), part = data.parts[root.dataset.part];
  if (root.dataset.viewer === "tokens") tokenViewer(root, part.tokens, data.grid);
  else itemBrowser(root, { ...part.items[root.dataset.list], texts: data.texts });
}
// The first run at once; the others of a long page while nothing else is to be done, and before it
// is printed.
const first = waiting[0]?.dataset.part;
while (waiting.length && waiting[0].dataset.part === first) openViewer();
document.documentElement.dataset.ready = "true";
performance.mark("ready");
const whenIdle = window.requestIdleCallback ?? ((call) => setTimeout(call, 50));
function openNext() {
  if (waiting.length) openViewer();
  if (waiting.length) whenIdle(openNext);
  else {
    document.documentElement.dataset.complete = "true";
    performance.mark("complete");
  }
}
whenIdle(openNext);
