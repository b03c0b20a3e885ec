"use strict";
// The comparison: which picture, which two versions, how large, and where the divider stands.
const stage = document.querySelector(".stage");
const divider = stage.querySelector("input");
const sides = { left: stage.querySelector(".left img"), right: stage.querySelector(".right img") };
const chosen = name => document.querySelector(`[name=${name}]:checked`).value;

function place() {
  const at = Number(divider.value);
  stage.style.setProperty("--at", `${at}%`);
  divider.setAttribute("aria-valuetext", `${at} % ${document.querySelector("#left").selectedOptions[0].text}`);
}

function show() {
  const panel = document.querySelector(`#picture-${chosen("picture")}`);
  document.querySelectorAll(".panel").forEach(each => { each.hidden = each !== panel; });
  const { width, height, x, y } = panel.dataset;
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.maxWidth = `calc(78vh * ${width} / ${height})`;
  stage.style.setProperty("--x", `${x}%`);
  stage.style.setProperty("--y", `${y}%`);
  const zoom = chosen("zoom");
  stage.style.setProperty("--zoom", zoom);
  stage.classList.toggle("zoomed", zoom > 1);
  for (const side of ["left", "right"]) {
    const source = panel.querySelector(`[data-version=${document.querySelector(`#${side}`).value}]`);
    sides[side].src = source.src;
    sides[side].alt = source.alt;
    const tag = stage.querySelector(`.of-${side}`);
    tag.querySelector("b").textContent = source.dataset.label;
    tag.querySelector("span").textContent = source.dataset.note;
  }
  place();
}

divider.addEventListener("input", place);
document.querySelectorAll(".controls input, .controls select").forEach(each => each.addEventListener("change", show));
show();
