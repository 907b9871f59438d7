// Filters, and figures that open large. Without JavaScript everything is shown as it is.

const AT_ONCE = 12; // cards of the gallery that are shown before one asks for more

function button(text, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "plain";
  made.textContent = text;
  if (label) made.setAttribute("aria-label", label);
  return made;
}

// --- claims: a button per status hides the rows of all others ----------------------------------

function filterClaims(group) {
  const blocks = [...document.querySelectorAll("details.claims")];
  const choices = [...group.querySelectorAll("li")].map((item) => {
    const made = button("");
    made.append(...item.childNodes);
    made.setAttribute("aria-pressed", "false");
    item.append(made);
    return { made, word: item.dataset.word };
  });
  const shown = document.createElement("output");
  group.append(shown);

  choices.forEach(({ made, word }) => {
    made.addEventListener("click", () => {
      const chosen = made.getAttribute("aria-pressed") === "true" ? "" : word;
      choices.forEach((its) => its.made.setAttribute("aria-pressed", String(its.word === chosen)));
      let count = 0;
      blocks.forEach((block) => {
        let any = 0;
        block.querySelectorAll("tbody tr").forEach((row) => {
          row.hidden = chosen !== "" && !row.querySelector(`[data-word="${chosen}"]`);
          any += !row.hidden;
        });
        block.hidden = any === 0;
        if (chosen && any && chosen !== "not run") block.open = true;
        count += any;
      });
      shown.textContent = chosen ? `${count} claims are shown` : "";
    });
  });
}

// --- gallery: by rule and method, in an order ---------------------------------------------------

function filterGallery(form) {
  const place = document.querySelector(".cards");
  const cards = [...place.children];
  const more = button("Show more");
  more.classList.add("more");
  place.after(more);
  const orders = {
    size: (card) => -Math.abs(card.dataset.difference),
    gain: (card) => -card.dataset.difference,
    loss: (card) => Number(card.dataset.difference),
  };
  let limit = AT_ONCE;

  function show() {
    const { rule, method, order } = Object.fromEntries(new FormData(form));
    const fitting = cards.filter(
      ({ dataset }) => (!rule || dataset.rule === rule) && (!method || dataset.method === method),
    );
    fitting.sort((one, two) => orders[order](one) - orders[order](two));
    cards.forEach((card) => (card.hidden = true));
    fitting.slice(0, limit).forEach((card) => (card.hidden = false));
    place.append(...fitting);
    more.hidden = fitting.length <= limit;
    const count = Math.min(limit, fitting.length);
    form.querySelector("output").textContent = `${count} of ${fitting.length} examples are shown`;
  }

  form.addEventListener("change", () => {
    limit = AT_ONCE;
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    limit += AT_ONCE;
    show();
  });
  form.hidden = false;
  show();
}

// --- figures open large, and arrow keys go to the next ------------------------------------------

function enlarging() {
  const dialog = document.createElement("dialog");
  dialog.innerHTML = '<div class="bar"><output></output></div><div class="content"></div>';
  const [before, after, close] = [button("Previous"), button("Next"), button("Close")];
  dialog.firstChild.prepend(before, after, close);
  document.body.append(dialog);
  let figures = [];
  let place = 0;

  function show(number) {
    place = (number + figures.length) % figures.length;
    const copy = figures[place].cloneNode(true);
    copy.querySelector(".enlarge").remove();
    const name = figures[place].dataset.large;
    dialog.setAttribute("aria-label", name);
    dialog.querySelector(".content").replaceChildren(copy);
    dialog.querySelector("output").textContent = `${name}, ${place + 1} of ${figures.length}`;
  }

  document.querySelectorAll("[data-large]").forEach((figure) => {
    const opens = button("⤢", `Enlarge ${figure.dataset.large}`);
    opens.className = "enlarge";
    opens.addEventListener("click", () => {
      const section = figure.closest("section");
      figures = [...section.querySelectorAll("[data-large]")].filter((its) => !its.hidden);
      show(figures.indexOf(figure));
      dialog.showModal();
    });
    figure.append(opens);
  });
  before.addEventListener("click", () => show(place - 1));
  after.addEventListener("click", () => show(place + 1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(place - 1);
    if (event.key === "ArrowRight") show(place + 1);
  });
}

document.querySelectorAll('[data-filter="claims"]').forEach(filterClaims);
document.querySelectorAll('[data-filter="gallery"]').forEach(filterGallery);
enlarging();
