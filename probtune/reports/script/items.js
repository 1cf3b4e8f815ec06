// The item browser: every item with the answers of all models side by side. Only the rows in sight
// are in the document, so that 10,000 items stay fluid.

const RIGHT = "\u2713", WRONG = "\u2717";

/** Put the browser of `data` into `root`: {models, items, texts, first}. `first` is the index of the
 * model that changes are counted from. An item: {w, q, r, a: [text...], ok: [1/0/null...], d}. */
function itemBrowser(root, data) {
  const { models, items, texts } = data;
  const text = (index) => (index === null || index === undefined ? "" : texts[index]);
  let model = Math.min(models.length - 1, data.first === 0 ? 1 : 0), filter = "all", order = "change", query = "";
  let shown = [], tops = [], opened = 0;
  const height = 34;
  const search = element("input", { type: "search", placeholder: "Search question, reference, answers", "aria-label": "Search", oninput: () => { query = search.value.toLowerCase(); refresh(); } });
  const others = models.map((name, i) => [i, name]).filter(([i]) => i !== data.first);
  const [modelLabel, modelSelect] = choice("Change from " + models[data.first] + " to", others, (i) => { model = Number(i); refresh(); });
  const graded = items.some((item) => item.ok.some((value) => value !== null));
  const filters = graded
    ? [["all", "all"], ["flips", "flips"], ["mended", "mended"], ["broken", "broken"], ["wrong", "wrong"], ["disagree", "models disagree"]]
    : [["all", "all"]];
  const [filterLabel] = choice("Show", filters, (value) => { filter = value; refresh(); });
  const [orderLabel] = choice("Order", [["change", "most changed"], ["file", "as in the data"], ["better", "most gained"], ["worse", "most lost"]], (value) => { order = value; refresh(); });
  const count = element("p", { class: "note", role: "status", "aria-live": "polite" });
  const pane = element("div", { class: "pane", tabindex: "0", role: "listbox", "aria-label": "Items" });
  const space = element("div", { class: "space", role: "presentation" });
  const detail = element("div", { class: "detail", tabindex: "0", role: "group", "aria-label": "Item" });
  const print = element("div", { class: "printed" });
  pane.append(space);
  root.append(element("div", { class: "bar" }, search, others.length > 1 ? modelLabel : null, graded ? filterLabel : null, orderLabel), count, element("div", { class: "browser" }, pane, detail), print);
  if (others.length) model = others[0][0];

  const sign = (value) => (value === null ? "\u00b7" : value ? RIGHT : WRONG);
  const change = (item) => (item.s ? item.s[model] - item.s[data.first] : 0);
  const flip = (item) => {
    const before = item.ok[data.first], after = item.ok[model];
    if (before === null || after === null || before === after) return null;
    return after ? "mended" : "broken";
  };
  const lower = items.map((item) => null);
  const haystack = (i) => (lower[i] ??= [items[i].w, text(items[i].q), text(items[i].r), ...items[i].a.map(text)].join("\n").toLowerCase());

  function refresh() {
    shown = [];
    let mended = 0, broken = 0;
    items.forEach((item, i) => {
      const flipped = flip(item);
      mended += flipped === "mended";
      broken += flipped === "broken";
      const pass = filter === "all" || (filter === "flips" && flipped) || filter === flipped
        || (filter === "wrong" && item.ok[model] === 0)
        || (filter === "disagree" && new Set(item.ok.filter((_, k) => k !== data.first)).size > 1);
      if (pass && (!query || haystack(i).includes(query))) shown.push(i);
    });
    const by = { change: (i) => -Math.abs(change(items[i])) - (flip(items[i]) ? 1e6 : 0), better: (i) => -change(items[i]), worse: (i) => change(items[i]) };
    if (by[order]) shown = shown.map((i) => [by[order](i), i]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((pair) => pair[1]);
    count.textContent = `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} items`
      + (graded ? `; from ${models[data.first]} to ${models[model]}: ${mended} mended (${WRONG} to ${RIGHT}), ${broken} broken (${RIGHT} to ${WRONG})` : "");
    space.style.height = `${shown.length * height}px`;
    pane.scrollTop = 0;
    opened = 0;
    window_();
    openItem(0);
  }

  function window_() {
    const from = Math.max(0, Math.floor(pane.scrollTop / height) - 5);
    const to = Math.min(shown.length, from + Math.ceil(pane.clientHeight / height) + 12);
    const lines = [];
    for (let k = from; k < to; k++) {
      const item = items[shown[k]], flipped = flip(item), d = change(item);
      lines.push(element("div", { class: "line" + (flipped ? " " + flipped : ""), role: "option", id: `${root.id}-${k}`, "aria-selected": String(k === opened), "aria-posinset": k + 1, "aria-setsize": shown.length, style: { top: `${k * height}px` }, onclick: () => openItem(k) },
        graded ? element("span", { class: "signs" }, item.ok.map(sign).join("")) : null,
        element("span", { class: "question" }, text(item.q).trim().replace(/\s+/g, " ").slice(-160) || shortPlace(item.w)),
        element("span", { class: "delta" }, (flipped ? flipped + " " : "") + (item.s ? (d > 0 ? "+" : "") + d.toFixed(2) : ""))));
    }
    space.replaceChildren(...lines);
    pane.setAttribute("aria-activedescendant", shown.length ? `${root.id}-${opened}` : "");
  }

  function body(item) {
    const parts = [element("p", { class: "muted", title: item.w }, shortPlace(item.w))];
    if (item.q !== null) parts.push(element("pre", {}, text(item.q)), element("p", { class: "muted" }, "reference"), element("pre", {}, text(item.r)));
    const answers = element("div", { class: "answers" });
    models.forEach((name, k) => {
      const ok = item.ok[k];
      const heading = element("p", { class: "muted" }, ok === null ? "" : element("span", { class: ok ? "yes" : "no" }, `${sign(ok)} ${ok ? "right" : "wrong"} `), name, item.s && item.s[k] !== null ? `, NLL ${(-item.s[k]).toFixed(2)}` : "");
      const answer = item.a[k] === null || item.a[k] === undefined ? element("p", { class: "muted" }, "no answer was generated") : element("pre", { class: ok === null ? "" : ok ? "right" : "wrong" }, text(item.a[k]));
      answers.append(element("div", {}, heading, answer));
    });
    return [...parts, answers];
  }

  function openItem(k) {
    opened = Math.max(0, Math.min(k, shown.length - 1));
    detail.replaceChildren(...(shown.length ? body(items[shown[opened]]) : [element("p", { class: "muted" }, "No item matches.")]));
    window_();
  }

  pane.addEventListener("scroll", () => requestAnimationFrame(window_));
  pane.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(pane.clientHeight / height) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -shown.length, End: shown.length }[event.key];
    if (!by) return;
    event.preventDefault();
    openItem(opened + by);
    const top = opened * height;
    if (top < pane.scrollTop) pane.scrollTop = top;
    else if (top + height > pane.scrollTop + pane.clientHeight) pane.scrollTop = top + height - pane.clientHeight;
    window_();
  });
  onPrint((printing) => {
    const most = 40;
    print.replaceChildren();
    if (!printing) return;
    print.append(element("p", { class: "note" }, shown.length > most ? `The first ${most} of ${shown.length} items in this order; the page shows all.` : ""));
    for (const i of shown.slice(0, most)) print.append(element("div", { class: "item" }, ...body(items[i])));
  });
  refresh();
}
