/** Line charts as SVG, by hand: no library, so that a report opens anywhere, offline, in light and dark. */
import { checkOptions } from "../options.ts";
import { grouped } from "../quantities.ts";

export interface Series {
  name: string;
  /** Which of the stylesheet's colours, 1 to 3. */
  colour: 1 | 2 | 3;
  points: readonly (readonly [x: number, y: number])[];
  /** Drawn under the others, thin and pale: the raw values behind a smoothed line. */
  faint?: boolean;
  /** A dot on each point. */
  dots?: boolean;
}

export interface ChartOptions {
  title: string;
  series: readonly Series[];
  /** Logarithmic y axis. */
  logarithmic?: boolean;
  format?: (y: number) => string;
  xLabel?: string;
}

// As wide as it is shown where two stand side by side, so that its text has the size of the page's.
const WIDTH = 560;
const HEIGHT = 215;
const EDGE = { left: 54, right: 20, top: 10, bottom: 32 };

export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** Round numbers (1, 2 or 5 times a power of ten) that cut a range into about `count` parts. */
export function ticks(low: number, high: number, count: number): number[] {
  const raw = (high - low) / count;
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((m) => m * power >= raw) as number) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

/** 1, 2 and 5 times the powers of ten between 10^low and 10^high; only the powers where there are many. */
function logarithmicTicks(low: number, high: number): number[] {
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => 10 ** (Math.floor(low) + i));
  const factors = high - low > 3 ? [1] : [1, 2, 5];
  return powers.flatMap((p) => factors.map((f) => f * p)).filter((y) => Math.log10(y) >= low && Math.log10(y) <= high);
}

/** At most this many points of a line are drawn. */
const MOST_POINTS = 600;

/** Runs of neighbours, as many as `count`. */
function runs(points: Series["points"], count: number): Series["points"][] {
  const cut = (i: number) => Math.floor((i * points.length) / count);
  return Array.from({ length: count }, (_, i) => points.slice(cut(i), cut(i + 1)));
}

/** A smoothed line by the means of runs of neighbours; raw values by the least and the largest of each run, so that no leap is lost. */
function thin({ points, faint = false }: Series): Series["points"] {
  if (points.length <= MOST_POINTS) return points;
  const mean = (part: Series["points"], i: 0 | 1) => part.reduce((sum, p) => sum + p[i], 0) / part.length;
  if (!faint) return runs(points, MOST_POINTS).map((part) => [mean(part, 0), mean(part, 1)] as const);
  return runs(points, MOST_POINTS / 2).flatMap((part) => {
    const [first, ...rest] = part.filter(([, y]) => Number.isFinite(y));
    if (first === undefined) return [];
    let [least, largest] = [first, first];
    for (const p of rest) {
      if (p[1] < least[1]) least = p;
      if (p[1] > largest[1]) largest = p;
    }
    return least === largest ? [least] : least[0] < largest[0] ? [least, largest] : [largest, least];
  });
}

/** A figure with a title, a legend and one SVG. */
export function chart(options: ChartOptions): string {
  checkOptions("chart", options, { title: true, series: true, logarithmic: true, format: true, xLabel: true });
  const { title, series, logarithmic = false, format = (y: number) => String(Number(y.toPrecision(4))), xLabel = "step" } = options;
  const scale = (y: number) => (logarithmic ? Math.log10(y) : y);
  const shown = series.map((s) => ({ ...s, points: thin(s).filter(([, y]) => Number.isFinite(scale(y))) })).filter((s) => s.points.length > 0);
  if (shown.length === 0) return "";
  const all = shown.flatMap((s) => s.points);
  const xs = all.map(([x]) => x);
  const ys = all.map(([, y]) => scale(y));
  const [x0, x1] = [Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1)];
  const reach = Math.max(...ys) - Math.min(...ys) || Math.abs(ys[0] as number) * 0.1 || 1;
  const [y0, y1] = [Math.min(...ys) - 0.05 * reach, Math.max(...ys) + 0.05 * reach];
  const px = (x: number) => (EDGE.left + ((x - x0) / (x1 - x0)) * (WIDTH - EDGE.left - EDGE.right)).toFixed(1);
  const py = (y: number) => (HEIGHT - EDGE.bottom - ((scale(y) - y0) / (y1 - y0)) * (HEIGHT - EDGE.top - EDGE.bottom)).toFixed(1);
  const marks = logarithmic ? logarithmicTicks(y0, y1) : ticks(y0, y1, 5);
  const grid = marks.map(
    (y) =>
      `<line class="grid" x1="${EDGE.left}" x2="${WIDTH - EDGE.right}" y1="${py(y)}" y2="${py(y)}"/><text class="tick" x="${EDGE.left - 8}" y="${py(y)}" dy="0.32em" text-anchor="end">${escapeHtml(format(y))}</text>`,
  );
  const below = ticks(x0, x1, 6).map((x) => `<text class="tick" x="${px(x)}" y="${HEIGHT - EDGE.bottom + 17}" text-anchor="middle">${grouped(x)}</text>`);
  const lines = shown.map((s) => {
    const path = s.points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${px(x)} ${py(y)}`).join("");
    const dots = s.dots
      ? s.points
          .map(
            ([x, y]) =>
              `<circle class="c${s.colour}" cx="${px(x)}" cy="${py(y)}" r="3"><title>${xLabel} ${Math.round(x)}: ${escapeHtml(format(y))}</title></circle>`,
          )
          .join("")
      : "";
    return `<path class="line c${s.colour}${s.faint ? " faint" : ""}" d="${path}"/>${dots}`;
  });
  const legend =
    shown.length > 1
      ? `<span class="legend">${shown.map((s) => `<i class="k${s.colour}${s.faint ? " pale" : ""}"></i>${escapeHtml(s.name)}`).join("")}</span>`
      : "";
  return `<figure><figcaption>${escapeHtml(title)}${legend}</figcaption><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">${grid.join("")}${below.join("")}<text class="tick axis" x="${WIDTH - EDGE.right}" y="${HEIGHT - 3}" text-anchor="end">${escapeHtml(xLabel)}</text>${lines.join("")}</svg></figure>`;
}

/** Horizontal bars with their labels; one of `largest` is as wide as the figure. */
export function bars(title: string, rows: readonly (readonly [label: string, value: number, shown: string])[], largest: number): string {
  const lines = rows.map(
    ([label, value, shown]) =>
      `<tr><th>${escapeHtml(label)}</th><td><span class="bar" style="width:${((100 * value) / largest).toFixed(1)}%"></span></td><td class="number">${escapeHtml(shown)}</td></tr>`,
  );
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><table class="bars">${lines.join("")}</table></figure>`;
}
