/**
 * The ratios as a chart: one panel a measure, one bar a path, a line where kernel VXLAN is. SVG
 * without a background, in colours that stand on light and dark pages alike.
 */
import {
  type MeasureId,
  MEASURES,
  medianOf,
  type PathResult,
  ratioOf,
  REFERENCE_PATH,
  type Report,
} from "./results.ts";
import { formatNumber } from "./statistics.ts";

const PANELS: readonly MeasureId[] = [
  "tcp1",
  "tcp4",
  "udp64",
  "udp1400",
  "latencyP50",
  "machineCpu",
];
const PANELS_A_ROW = 2;
const WIDTH = 960;
const MARGIN = 16;
const HEAD_HEIGHT = 40;
const PANEL_WIDTH = (WIDTH - MARGIN) / PANELS_A_ROW - MARGIN;
const LABEL_WIDTH = 184;
/** Two columns: the ratio, and the value it comes from. */
const RATIO_WIDTH = 64;
const VALUE_WIDTH = 48;
const TITLE_HEIGHT = 28;
const BAR_HEIGHT = 14;
const BAR_STEP = 20;
const PANEL_GAP = 20;
/** A path far slower than all others must not squeeze their bars out of sight. */
const RATIO_SHOWN_MAX = 4;
const AT_END = ' text-anchor="end"';

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #57606a; }
  .title { font-weight: 600; }
  .own { fill: #2f81f7; }
  .reference { fill: #57606a; }
  .other { fill: #9ba3ad; }
  .line { stroke: #57606a; stroke-dasharray: 2 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #adb5bd; }
    .reference { fill: #adb5bd; }
    .other { fill: #6b7480; }
    .line { stroke: #adb5bd; }
  }
`;

/** Text that stands for itself in XML. */
export function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

function text(x: number, y: number, content: string, more = ""): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escapeXml(content)}</text>`;
}

function barClass(path: PathResult): string {
  if (path.id === REFERENCE_PATH) return "reference";
  return path.title.startsWith("Selvage") ? "own" : "other";
}

interface Bar {
  readonly path: PathResult;
  readonly ratio: number;
  readonly value: string;
}

function barsOf(report: Report, measure: MeasureId): Bar[] {
  return report.paths.flatMap((path) => {
    const ratio = ratioOf(report, path.id, measure);
    if (ratio === null) return [];
    return [{ path, ratio, value: formatNumber(medianOf(report, path.id, measure)) }];
  });
}

function panel(report: Report, id: MeasureId, left: number, top: number): string {
  const { title, unit, isHigherBetter } = MEASURES.find((measure) => measure.id === id)!;
  const bars = barsOf(report, id);
  const scaleMax = Math.min(RATIO_SHOWN_MAX, Math.max(1, ...bars.map(({ ratio }) => ratio)));
  const start = left + LABEL_WIDTH;
  const width = PANEL_WIDTH - LABEL_WIDTH - RATIO_WIDTH - VALUE_WIDTH;
  const ratioEnd = start + width + RATIO_WIDTH;
  const name = id === "machineCpu" ? "processor time" : title;
  const heading = `${name}, ${unit}: ${isHigherBetter ? "more" : "less"} is better`;
  const lines = [text(left, top + 14, heading, ' class="title"')];
  for (const [i, { path, ratio, value }] of bars.entries()) {
    const y = top + TITLE_HEIGHT + i * BAR_STEP;
    const length = Math.max(1, Math.min(ratio, scaleMax) / scaleMax * width);
    const baseline = y + BAR_HEIGHT - 3;
    lines.push(
      text(start - 8, baseline, path.title, AT_END),
      `<rect class="${barClass(path)}" x="${start}" y="${y}" width="${length.toFixed(1)}" ` +
        `height="${BAR_HEIGHT}" rx="2"/>`,
      text(ratioEnd, baseline, `${ratio > scaleMax ? "→ " : ""}${ratio.toFixed(2)}×`, AT_END),
      text(ratioEnd + VALUE_WIDTH, baseline, value, AT_END),
    );
  }
  const x = (start + width / scaleMax).toFixed(1);
  const bottom = top + TITLE_HEIGHT + bars.length * BAR_STEP;
  lines.push(
    `<line class="line" x1="${x}" y1="${top + TITLE_HEIGHT - 4}" x2="${x}" y2="${bottom}"/>`,
  );
  return lines.join("\n");
}

/** The whole chart. Its width is fixed; its height grows with the number of paths. */
export function drawChart(report: Report): string {
  const panelHeight = TITLE_HEIGHT + report.paths.length * BAR_STEP + PANEL_GAP;
  const height = HEAD_HEIGHT + Math.ceil(PANELS.length / PANELS_A_ROW) * panelHeight;
  const heading = "Container to container on one machine, as ratios to kernel VXLAN";
  const panels = PANELS.map((id, i) => {
    const left = MARGIN + (i % PANELS_A_ROW) * (PANEL_WIDTH + MARGIN);
    const top = HEAD_HEIGHT + Math.floor(i / PANELS_A_ROW) * panelHeight;
    return panel(report, id, left, top);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" ` +
    `height="${height}" role="img" aria-label="${escapeXml(heading)}">`,
    `<title>${escapeXml(heading)}</title>`,
    `<style>${STYLE}</style>`,
    text(MARGIN, 22, heading, ' class="title"'),
    ...panels,
    "</svg>\n",
  ].join("\n");
}
