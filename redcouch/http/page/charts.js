// Line charts of the last hour, as SVG. A chart has one or two series of points in time.
// Where a value is null, or nothing was noted for a while, there is a gap.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 22;
const LONGEST = 3600, SHORTEST = 60; // seconds
const GAP = 15; // seconds from one point to the next beyond which nobody was there to look

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A round number that is no less, whose half can be written short.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

// How values become heights: from 0 to a round number.
function evenly(values, top) {
  const most = top ?? roundUp(Math.max(...values, 1));
  return { ticks: [0, most / 2, most], share: (value) => value / most };
}

// The same by powers of ten, for what is now and then a hundred times as much.
function byDecades(values) {
  const known = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(known.length ? Math.min(...known) : 0.1));
  const high = Math.max(low + 1, Math.ceil(Math.log10(known.length ? Math.max(...known) : 1)));
  return {
    ticks: Array.from({ length: high - low + 1 }, (_, index) => Number(`1e${low + index}`)),
    share: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low),
  };
}

// The stretches of time in which somebody looked.
function stretches(points) {
  const found = [];
  for (const point of points) {
    const before = found.at(-1)?.at(-1);
    if (before && point.time - before.time <= GAP) found.at(-1).push(point);
    else found.push([point]);
  }
  return found;
}

// Of so many points at a time one: the mean or the largest.
function thin(points, size, join) {
  const thinned = [];
  for (let at = 0; at < points.length; at += size) {
    const some = points.slice(at, at + size);
    const known = some.map(([, value]) => value).filter((value) => value !== null);
    thinned.push([some.at(-1)[0], known.length ? join(known) : null]);
  }
  return thinned;
}

// What is drawn where there is nothing to draw.
function nothing(width, height) {
  const place = { x: (LEFT + width - RIGHT) / 2, y: (height - BOTTOM) / 2, "text-anchor": "middle" };
  return element("text", place, "nothing yet");
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const largest = (values) => Math.max(...values);

function clock(seconds, exact) {
  const shape = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (exact) shape.second = "2-digit";
  return new Date(seconds * 1000).toLocaleTimeString([], shape);
}

export class Chart {
  // series: [{ name, look: "one" | "two", value: (point) => number | null, peak: boolean }];
  // write and tick say a value above the chart and beside it; top is the most there can be.
  constructor(id, { series, unit, write, tick = write, top, area, decades = false }) {
    const figure = document.getElementById(id);
    this.svg = figure.querySelector("svg");
    this.now = figure.querySelector(".now");
    this.legend = figure.querySelector(".legend");
    this.title = figure.querySelector("h2").textContent;
    Object.assign(this, { series, unit, write, tick, top, area, decades });
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
    this.svg.replaceChildren(...(this.points.length ? this.drawn(width, height) : [nothing(width, height)]));
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
    const points = this.points.filter((point) => point.time >= last - span);
    const size = Math.ceil(points.length / Math.max(60, (width - LEFT) / 2)); // that can be seen
    const lines = this.series.map((one) => stretches(points).map((stretch) => thin(
      stretch.map((point) => [point.time, one.value(point)]), size, one.peak ? largest : mean)));
    const values = lines.flat(2).map(([, value]) => value).filter((value) => value !== null);
    const { ticks, share } = this.decades ? byDecades(values) : evenly(values, this.top);
    const x = (time) => LEFT + ((time - last + span) / span) * (width - LEFT - RIGHT);
    const y = (value) => height - BOTTOM - share(value) * (height - TOP - BOTTOM);
    this.scale = { time: (at) => last - span + ((at - LEFT) / (width - LEFT - RIGHT)) * span };
    const parts = [...this.axes(width, height, ticks, last, span, x, y)];
    lines.forEach((line, index) => parts.push(
      ...line.flatMap((stretch) => [...this.line(stretch, this.series[index].look, x, y, height - BOTTOM)])));
    if (!values.length) parts.push(nothing(width, height));
    if (this.chosen) {
      const at = x(this.chosen.time);
      parts.push(element("line", { class: "cross", x1: at, x2: at, y1: TOP, y2: height - BOTTOM }));
    }
    return parts;
  }

  *axes(width, height, ticks, last, span, x, y) {
    for (const value of ticks) {
      const at = Math.round(y(value)) + 0.5;
      yield element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at });
      yield element("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, this.tick(value));
    }
    const count = width > 300 ? 4 : 3;
    for (let index = 0; index < count; index += 1) {
      const time = last - span + (span * index) / (count - 1);
      const anchor = index === 0 ? "start" : index === count - 1 ? "end" : "middle";
      yield element("text", { x: x(time), y: height - 5, "text-anchor": anchor },
        clock(time, span < 600));
    }
  }

  *line(points, look, x, y, base) {
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
