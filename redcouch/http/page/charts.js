// Line charts of the last hour, as SVG. A chart has one or two series of points in time;
// where a value is null there is a gap.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 22;
const LONGEST = 3600, SHORTEST = 60; // seconds

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A round number that is no less: 1, 2, 2.5 or 5 times a power of ten.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

// No more points than can be seen: of several, the mean or the largest.
function thin(points, most, join) {
  const size = Math.ceil(points.length / most);
  if (size < 2) return points;
  const thinned = [];
  for (let at = 0; at < points.length; at += size) {
    const some = points.slice(at, at + size);
    const known = some.map(([, value]) => value).filter((value) => value !== null);
    thinned.push([some.at(-1)[0], known.length ? join(known) : null]);
  }
  return thinned;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const largest = (values) => Math.max(...values);

function clock(seconds, exact) {
  const shape = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (exact) shape.second = "2-digit";
  return new Date(seconds * 1000).toLocaleTimeString([], shape);
}

export class Chart {
  // series: [{ name, look: "one" | "two", value: (point) => number | null, peak: boolean }]
  constructor(id, { series, unit, write, top, area }) {
    const figure = document.getElementById(id);
    this.svg = figure.querySelector("svg");
    this.now = figure.querySelector(".now");
    this.legend = figure.querySelector(".legend");
    this.title = figure.querySelector("h2").textContent;
    Object.assign(this, { series, unit, write, top, area });
    this.points = [];
    this.chosen = null;
    this.svg.addEventListener("pointermove", (event) => this.choose(event));
    this.svg.addEventListener("pointerleave", () => this.choose(null));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  show(points) {
    this.points = points;
    this.draw();
  }

  choose(event) {
    this.chosen = null;
    if (event && this.points.length && this.scale) {
      const at = event.clientX - this.svg.getBoundingClientRect().left;
      const time = this.scale.time(at);
      this.chosen = this.points.reduce((best, point) =>
        Math.abs(point.time - time) < Math.abs(best.time - time) ? point : best);
    }
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth, height = this.svg.clientHeight;
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.say();
    const parts = this.points.length ? this.drawn(width, height) : [];
    this.svg.replaceChildren(...parts);
  }

  // The figures above the chart: of the latest point, or of the one that is pointed at.
  say() {
    const point = this.chosen ?? this.points.at(-1);
    const [first] = this.series;
    const value = point ? first.value(point) : null;
    const unit = document.createElement("small");
    unit.textContent = this.unit;
    this.now.replaceChildren(value === null ? "\u2013" : this.write(value), unit);
    const said = this.series.map((one) => {
      const span = document.createElement("span");
      const known = point ? one.value(point) : null;
      span.className = one.look;
      span.textContent = `${one.name} ${known === null ? "\u2013" : this.write(known)}`;
      return span;
    });
    if (this.chosen) {
      const when = document.createElement("b");
      when.textContent = clock(this.chosen.time, true);
      said.push(when);
    }
    this.legend.replaceChildren(...said);
    this.svg.setAttribute("aria-label", `${this.title}: ${this.now.textContent}`);
  }

  drawn(width, height) {
    const last = this.points.at(-1).time;
    const span = Math.min(LONGEST, Math.max(SHORTEST, last - this.points[0].time));
    const lines = this.series.map((one) => thin(
      this.points.filter((point) => point.time >= last - span)
        .map((point) => [point.time, one.value(point)]),
      Math.max(60, (width - LEFT) / 2), one.peak ? largest : mean));
    const values = lines.flat().map(([, value]) => value).filter((value) => value !== null);
    const top = this.top ?? roundUp(Math.max(...values, 1e-3));
    const x = (time) => LEFT + ((time - last + span) / span) * (width - LEFT - RIGHT);
    const y = (value) => height - BOTTOM - (value / top) * (height - TOP - BOTTOM);
    this.scale = { time: (at) => last - span + ((at - LEFT) / (width - LEFT - RIGHT)) * span };
    const parts = [...this.axes(width, height, top, last, span, x, y)];
    lines.forEach((line, index) => parts.push(...this.line(line, this.series[index].look, x, y)));
    if (this.chosen) {
      const at = x(this.chosen.time);
      parts.push(element("line", { class: "cross", x1: at, x2: at, y1: TOP, y2: height - BOTTOM }));
    }
    return parts;
  }

  *axes(width, height, top, last, span, x, y) {
    for (const value of [0, top / 2, top]) {
      const at = Math.round(y(value)) + 0.5;
      yield element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at });
      yield element("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, this.write(value));
    }
    const count = width > 300 ? 4 : 3;
    for (let index = 0; index < count; index += 1) {
      const time = last - span + (span * index) / (count - 1);
      const anchor = index === 0 ? "start" : index === count - 1 ? "end" : "middle";
      yield element("text", { x: x(time), y: height - 5, "text-anchor": anchor },
        clock(time, span < 600));
    }
  }

  *line(points, look, x, y) {
    const pieces = [];
    let piece = [];
    for (const [time, value] of points) {
      if (value === null) {
        if (piece.length) pieces.push(piece);
        piece = [];
      } else piece.push([x(time).toFixed(1), y(value).toFixed(1)]);
    }
    if (piece.length) pieces.push(piece);
    for (const one of pieces) {
      const path = one.map(([px, py]) => `${px},${py}`).join("L");
      const base = y(0).toFixed(1);
      if (this.area) {
        yield element("path", {
          class: `area ${look}`,
          d: `M${one[0][0]},${base}L${path}L${one.at(-1)[0]},${base}Z`,
        });
      }
      yield element("path", { class: `line ${look}`, d: `M${path}${one.length === 1 ? "h.1" : ""}` });
    }
  }
}
