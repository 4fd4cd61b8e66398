"use strict";
// Asks for the counters once a second and draws how fast they grow. No build step: this is all there is.

const WINDOW = 250; // seconds that the graph shows
const SMOOTH = 5; // seconds over which a speed is measured: workers count once a second, each at a moment of its own

const byId = (id) => document.getElementById(id);
const samples = []; // { now, hashes }
const times = [];
const speeds = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(width) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: Math.max(220, Math.min(420, width * 0.45)),
    legend: { show: false },
    cursor: { y: false },
    scales: {
      x: { time: false, range: [-WINDOW, 0] },
      y: { range: (_, __, top) => [0, Math.max(4, (top || 0) * 1.15)] },
    },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "now" : `${tick} s`)) },
      { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => `${tick}/s`) },
    ],
    series: [{}, { stroke: colour("--accent"), fill: colour("--accent") + "22", width: 2, points: { show: false } }],
  };
}

let plot;
function draw() {
  const last = times.at(-1) ?? 0;
  const data = [times.map((time) => time - last), speeds];
  const width = byId("graph").clientWidth;
  if (!plot) {
    plot = new uPlot(options(width), data, byId("graph"));
  } else {
    plot.setData(data);
  }
}

function redraw() {
  plot?.destroy();
  plot = undefined;
  draw();
}

function take({ now, hashes, coins }) {
  const before = samples.findLast((sample) => sample.now <= now - SMOOTH) ?? samples[0];
  // Counters that run backwards are another Redis's: begin anew.
  if (before && hashes < before.hashes) {
    samples.length = times.length = speeds.length = 0;
  }
  samples.push({ now, hashes });
  if (before && now > before.now && samples.length > 1) {
    const speed = (hashes - before.hashes) / (now - before.now);
    times.push(now);
    speeds.push(speed);
    byId("speed").textContent = `~${speed.toFixed(1)} hashes/second`;
    document.title = `${speed.toFixed(1)}/s · DockerCoins`;
  }
  while (samples.length && samples[0].now < now - WINDOW - SMOOTH) samples.shift();
  while (times.length && times[0] < now - WINDOW) {
    times.shift();
    speeds.shift();
  }
  const number = (value) => value.toLocaleString("en");
  byId("totals").textContent = `${number(coins)} coins out of ${number(hashes)} hashes`;
}

async function tick() {
  const trouble = byId("trouble");
  try {
    const answer = await fetch("json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error ?? answer.statusText);
    trouble.hidden = true;
    take(body);
  } catch (error) {
    trouble.hidden = false;
    trouble.textContent = `The counters cannot be read (${error.message}). Trying again …`;
    byId("speed").textContent = "no measurement";
  }
  draw();
  setTimeout(tick, 1000);
}

new ResizeObserver(redraw).observe(byId("graph"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
tick();
