#!/usr/bin/env node
/**
 * The loss curve of a run's report as a picture that stands alone, for README.md:
 *   node scripts/report-chart.mjs runs/quickstart/report.html > docs/quickstart-loss.svg
 */
import { readFileSync } from "node:fs";

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error("report-chart: expected a run's report.html, got nothing. Usage: node scripts/report-chart.mjs REPORT > PICTURE.svg");
  process.exit(2);
}
const found = /<figcaption>([^<]*)<span class="legend">(.*?)<\/span><\/figcaption><svg viewBox="0 0 (\d+) (\d+)"[^>]*>(.*?)<\/svg>/s.exec(
  readFileSync(file, "utf8"),
);
if (found === null) {
  console.error(`report-chart: no chart in ${file}, expected a report.html of groundup. Name one.`);
  process.exit(1);
}
const [, title, legend, width, height, drawing] = found;
const names = [...legend.matchAll(/<i class="k(\d)( pale)?"><\/i>([^<]*)/g)].map(([, colour, pale, name]) => ({ colour, pale: pale !== undefined, name }));
// A text's width can't be measured here: about 6.4 pixels a letter.
let x = 250;
const key = names.map(({ colour, pale, name }) => {
  const at = x;
  x += 38 + 6.4 * name.length;
  return `<path class="line c${colour}${pale ? " faint" : ""}" d="M${at} 24h16"/><text class="name" x="${(at + 22).toFixed(0)}" y="28">${name}</text>`;
});
const HEAD = 44;
console.log(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${Number(height) + HEAD}" font-family="system-ui,-apple-system,Segoe UI,sans-serif" role="img" aria-label="${title}">
<style>.grid{stroke:#e6e3dc}.tick,.name{fill:#667085;font-size:12px}.title{fill:#1d2129;font-size:15px;font-weight:600}.line{fill:none;stroke-width:2;stroke-linejoin:round}.line.c1{stroke:#2f6fde}.line.c2{stroke:#e0752d}.line.faint{stroke-width:1;opacity:.35}circle.c2{fill:#e0752d}</style>
<rect width="100%" height="100%" rx="10" fill="#fff"/>
<text class="title" x="20" y="29">${title}</text>${key.join("")}
<g transform="translate(0 ${HEAD})">${drawing}</g>
</svg>`);
