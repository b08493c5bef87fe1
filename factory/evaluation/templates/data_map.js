"use strict";
// Says which text the point under the pointer, the finger or the arrow keys is. Texts become text nodes, never markup.
(() => {
  const data = JSON.parse(document.getElementById("map-points").textContent);
  const box = document.querySelector(".map"), plane = box.querySelector(".plane"), svg = plane.querySelector("svg");
  const said = box.querySelector(".said"), here = box.querySelector(".here"), choose = box.querySelector("select");
  const REACH = 0.03;
  const marks = data.names.map((name) => svg.querySelectorAll(`.${name}_marks > path`));
  const points = data.groups.flatMap((group, g) =>
    group.map(([x, y, label, origin, text], at) => ({ x, y: 1 - y, g, label, origin, text, mark: marks[g][at] })));
  const shows = (point) => checks[point.g]?.checked && (choose.value === "" || Number(choose.value) === point.label);
  const checks = data.names.map((name) => box.querySelector(`input[value="${name}"]`));
  let current = null;

  const line = (text, className) => {
    const made = document.createElement("p");
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const show = (point) => {
    if (!point || point === current) return;
    current = point;
    here.hidden = false;
    here.style.left = `${100 * point.x}%`;
    here.style.top = `${100 * point.y}%`;
    said.replaceChildren(
      line(point.text),
      line(data.labels[point.label] ? `Label: ${data.labels[point.label]}` : "No label", "note"),
      line(data.origins[point.origin], "note"),
    );
  };
  // Cost of going to a point; infinite for one that may not be gone to.
  const nearest = (cost) => {
    let best = null, least = Infinity;
    for (const point of points) {
      if (!shows(point)) continue;
      const now = cost(point);
      if (now < least) { least = now; best = point; }
    }
    return best;
  };
  const under = (event) => {
    const area = svg.getBoundingClientRect();
    const x = (event.clientX - area.left) / area.width, y = (event.clientY - area.top) / area.height;
    show(nearest((point) => {
      const far = Math.hypot(point.x - x, point.y - y);
      return far < REACH ? far : Infinity;
    }));
  };
  plane.addEventListener("pointermove", under);
  plane.addEventListener("pointerdown", under);

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  plane.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const from = current && shows(current) ? current : { x: 0.5, y: 0.5 };
    show(nearest((point) => {
      const dx = point.x - from.x, dy = point.y - from.y;
      const ahead = dx * step[0] + dy * step[1], aside = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
      return point !== from && ahead > 0 && aside <= 2 * ahead ? ahead + 2 * aside : Infinity;
    }));
  });

  const redraw = () => {
    checks.forEach((check, g) => {
      if (!check) return; // no row of this group
      for (const layer of svg.querySelectorAll(`.${data.names[g]}_marks`)) layer.classList.toggle("off", !check.checked);
    });
    for (const point of points) point.mark.classList.toggle("dim", checks[point.g].checked && !shows(point));
  };
  data.labels.forEach((label, at) => choose.add(new Option(label || "no label", at)));
  for (const control of [...checks.filter(Boolean), choose]) control.addEventListener("change", redraw);
  for (const hidden of box.querySelectorAll("[data-script]")) hidden.hidden = false;
})();
