// The token viewer: the target tokens of a set of rows, shaded by p of a model or by their weight
// under an objective.

/** Put the viewer of `sets` into `root`. A set: {name, vocabulary, rows, models, weights}. */
function tokenViewer(root, sets, grid) {
  let set, shade, order, rows, at, size;
  const list = element("div", { class: "rows", role: "list" });
  const tip = element("div", { class: "tip", role: "status", "aria-live": "polite" });
  const count = element("span", { class: "muted" });
  const [setLabel, setSelect] = choice("Rows", sets.map((s, i) => [i, s.name]), (i) => open(i));
  const [orderLabel, orderSelect] = choice("Order", [], (value) => ((order = value), sort()));
  const shades = element("div", { class: "shades", role: "group", "aria-label": "Shade by" });
  const next = element("button", { type: "button", onclick: () => jump() }, "Next conflict (n)");
  const exportButton = element("button", { type: "button", onclick: () => exportRows() }, "Export these rows (JSONL)");
  const more = element("button", { type: "button", onclick: () => { size += 40; draw(); } }, "Show more");
  const bar = element("div", { class: "bar" }, sets.length > 1 ? setLabel : null, shades, orderLabel, next, exportButton, count);
  const legend = element("p", { class: "note" });
  root.append(bar, legend, tip, list, more);

  const p = (entry, i) => grid[entry.p.charCodeAt(i) - RECORD_CODE];
  const entropy = (entry, i) => (entry.h.charCodeAt(i) - RECORD_CODE) / 20;
  const rank = (entry, i) => (entry.r ? Math.round(2 ** ((entry.r.charCodeAt(i) - RECORD_CODE) / 16)) : null);
  const conflict = (entry, i) => p(entry, i) < 0.1 && entropy(entry, i) < Math.LN2;
  const surprise = (entry) => -[...entry.p].reduce((sum, c) => sum + Math.log(grid[c.charCodeAt(0) - RECORD_CODE]), 0) / Math.max(entry.p.length, 1);

  function open(index) {
    set = sets[index];
    const models = Object.keys(set.models);
    shade = { kind: "p", name: models[0] };
    const orders = [];
    if (set.rows.some((row) => row.excess !== undefined)) orders.push(["excess", "looks most wrong"]);
    orders.push(["conflict", "most conflicting"]);
    if (models.length > 1) orders.push(["change", "most changed"]);
    orders.push(["file", "as in the data"], ["random", "random"]);
    orderSelect.replaceChildren(...orders.map(([value, text]) => element("option", { value }, text)));
    order = orders[0][0];
    shades.replaceChildren(
      ...models.map((name, i) => shadeButton("p", name, `p, ${name}`, i + 1)),
      ...Object.keys(set.weights).map((name, i) => shadeButton("w", name, `weight, ${name}`, models.length + i + 1)),
    );
    sort();
  }

  function shadeButton(kind, name, text, number) {
    return element("button", { type: "button", "data-kind": kind, "data-name": name, "aria-pressed": "false", title: number < 10 ? `key ${number}` : null,
      onclick: () => { shade = { kind, name }; draw(); } }, number < 10 ? `${number} ${text}` : text);
  }

  function sort() {
    const models = Object.keys(set.models), first = set.models[models[0]];
    const keys = {
      excess: (i) => -(set.rows[i].excess ?? 0),
      conflict: (i) => -[...first[i].p].filter((_, t) => conflict(first[i], t)).length - surprise(first[i]) / 1000,
      change: (i) => -Math.max(...models.slice(1).map((name) => Math.abs(surprise(set.models[name][i]) - surprise(first[i])))),
      file: (i) => i,
      random: (i) => (i * 2654435761) % 4294967296,
    };
    rows = set.rows.map((_, i) => [keys[order](i), i]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
    at = -1;
    size = 20;
    draw();
  }

  function level(i, t) {
    const model = shade.kind === "p" ? shade.name : Object.keys(set.models)[0];
    const entry = set.models[model][i];
    if (shade.kind === "p") return p(entry, t);
    return set.weights[shade.name][entry.p.charCodeAt(t) - RECORD_CODE];
  }

  function draw() {
    for (const button of shades.children) {
      button.setAttribute("aria-pressed", String(button.dataset.kind === shade.kind && button.dataset.name === shade.name));
    }
    legend.textContent = shade.kind === "p"
      ? `Darker: ${shade.name} gives the token a smaller p. Underlined: a confident conflict (p < 0.1 while the model is sure, entropy < ln 2).`
      : `Darker: ${shade.name} gives the token a larger weight, at the p of ${Object.keys(set.models)[0]}.`;
    const peak = shade.kind === "w" ? Math.max(...set.weights[shade.name], 1e-9) : 1;
    list.replaceChildren(...rows.slice(0, size).map((i) => drawRow(i, peak)));
    more.hidden = size >= rows.length;
    count.textContent = `${Math.min(size, rows.length)} of ${rows.length} rows`
      + (set.of > rows.length ? `; the page of this run alone has all ${set.of}` : "");
  }

  function drawRow(i, peak) {
    const row = set.rows[i], entry = set.models[Object.keys(set.models)[0]][i];
    const text = element("p", { class: "tokens" });
    row.t.forEach((index, t) => {
      const value = level(i, t), strength = shade.kind === "p" ? 1 - value : value / peak;
      const token = element("span", { class: "token" + (conflict(entry, t) ? " conflict" : ""), "data-t": t }, set.vocabulary[index].replace(/\n/g, "\u21b5\n"));
      token.style.setProperty("--s", `${Math.round(78 * Math.max(0, Math.min(1, strength)))}%`);
      text.append(token);
    });
    if (row.cut) text.append(element("span", { class: "muted" }, ` ... ${row.cut} more tokens`));
    const place = shortPlace(row.where);
    const head = row.excess === undefined ? place : `${place}, excess surprise ${row.excess.toFixed(1)}`;
    return element("div", { class: "row", role: "listitem", "data-i": i },
      element("p", { class: "muted where", title: row.where }, head),
      row.prompt ? element("p", { class: "prompt" }, row.prompt) : null, text);
  }

  function describe(i, t) {
    const parts = [element("strong", {}, JSON.stringify(set.vocabulary[set.rows[i].t[t]]))];
    const table = element("table", {});
    const header = element("tr", {}, element("th", { scope: "col" }, "model"), element("th", { scope: "col" }, "p"), element("th", { scope: "col" }, "rank"), element("th", { scope: "col" }, "entropy"));
    for (const name of Object.keys(set.weights)) header.append(element("th", { scope: "col" }, `w ${name}`));
    header.append(element("th", { scope: "col" }, "most probable"));
    table.append(element("thead", {}, header));
    const body = element("tbody", {});
    for (const [name, entries] of Object.entries(set.models)) {
      const entry = entries[i], r = rank(entry, t);
      const line = element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, probability(p(entry, t))), element("td", {}, r === null ? "-" : String(r)), element("td", {}, entropy(entry, t).toFixed(2)));
      for (const weights of Object.values(set.weights)) line.append(element("td", {}, weights[entry.p.charCodeAt(t) - RECORD_CODE].toFixed(2)));
      const others = (entry.a ?? {})[t];
      const words = others ? others[0].map((index, k) => `${JSON.stringify(set.vocabulary[index])} ${probability(grid[others[1].charCodeAt(k) - RECORD_CODE])}`).join("  ") : "not kept for this token";
      line.append(element("td", { class: "text" }, words));
      body.append(line);
    }
    table.append(body);
    parts.push(element("div", { class: "scroll", tabindex: "0" }, table));
    tip.replaceChildren(...parts);
  }

  function show(token) {
    list.querySelector(".token.current")?.classList.remove("current");
    token.classList.add("current");
    describe(Number(token.closest(".row").dataset.i), Number(token.dataset.t));
  }

  function jump() {
    let conflicts = [...list.querySelectorAll(".conflict")];
    if (at + 1 >= conflicts.length && size < rows.length) {
      size += 40;
      draw();
      conflicts = [...list.querySelectorAll(".conflict")];
    }
    if (!conflicts.length) return void (tip.textContent = "No confident conflict in these rows.");
    at = (at + 1) % conflicts.length;
    conflicts[at].scrollIntoView({ block: "center" });
    show(conflicts[at]);
  }

  function step(by) {
    const tokens = [...list.querySelectorAll(".token")];
    const current = list.querySelector(".token.current");
    const to = tokens[current ? tokens.indexOf(current) + by : 0];
    if (to) { show(to); to.scrollIntoView({ block: "nearest" }); }
  }

  function exportRows() {
    const lines = rows.map((i) => {
      const row = set.rows[i];
      return JSON.stringify({ where: row.where, ...(row.excess === undefined ? {} : { excess: row.excess }), prompt: row.prompt, response: row.response ?? row.t.map((index) => set.vocabulary[index]).join("") });
    });
    save("rows.jsonl", lines.join("\n") + "\n", "application/x-ndjson");
  }

  list.addEventListener("pointerover", (event) => event.target.classList.contains("token") && show(event.target));
  list.addEventListener("click", (event) => event.target.classList.contains("token") && show(event.target));
  root.tabIndex = 0;
  root.addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "n") jump();
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else if (/^[1-9]$/.test(event.key) && shades.children[event.key - 1]) shades.children[event.key - 1].click();
    else return;
    event.preventDefault();
  });
  let before;
  onPrint((printing) => {
    if (printing) { before = size; size = 20; } else size = before ?? size;
    draw();
  });
  open(0);
}
