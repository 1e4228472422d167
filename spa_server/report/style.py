"""How the page looks: light, dark and on paper. No rule names anything outside the page.

The colours of what stands side by side differ in lightness as well as in hue, and lines have dashes of their own, so
that nothing hangs on telling colours apart. Texts keep a contrast of 4.5 to their ground, marks of 3 (WCAG 2.1).
"""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f5f6f8; --ink: #1b1f24; --quiet: #57606a; --rule: #d5d9de; --faint: #e6e9ed;
  --granted: #2166ac; --refused: #d05a22; --alert: #a40e26; --away: #d9dde2;
  --c1: #2166ac; --c2: #d05a22; --note: #8f6a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12151a; --raised: #1b2027; --ink: #e8ebef; --quiet: #a3acb8; --rule: #39414c; --faint: #262c35;
    --granted: #4a90d9; --refused: #ffa473; --alert: #ff8b94; --away: #2d343e;
    --c1: #4a90d9; --c2: #ffa473; --note: #d9b343;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", "Noto Sans", "DejaVu Sans", Arial, sans-serif; }
main, header, footer { max-width: 860px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
footer { padding-bottom: 40px; color: var(--quiet); font-size: 13px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 36px 0 8px; }
p { margin: 6px 0; }
.quiet { color: var(--quiet); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(185px, 1fr)); gap: 10px; margin: 18px 0 0;
  padding: 0; }
.tiles div { background: var(--raised); border-radius: 8px; padding: 10px 14px; }
.tiles dt { color: var(--quiet); font-size: 13px; }
.tiles dd { margin: 0; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles .note { display: block; font-size: 12px; color: var(--quiet); line-height: 1.35; }
.notes { margin: 18px 0 0; padding: 10px 14px 10px 32px; border-left: 4px solid var(--note);
  background: var(--raised); }
figure { margin: 32px 0 0; overflow-x: auto; }
figcaption { margin-bottom: 4px; }
figcaption h2 { margin: 0; }
svg.plot { display: block; width: 100%; min-width: 560px; height: auto; }
svg.key { width: 26px; height: 14px; vertical-align: -2px; margin-right: 6px; }
svg text { fill: var(--quiet); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .up, svg .name { text-anchor: end; }
svg .along, svg .title { text-anchor: middle; }
svg .name, svg .count { fill: var(--ink); font-size: 13px; }
.grid { stroke: var(--faint); }
.axis, .tick { stroke: var(--quiet); }
.hit { fill: transparent; pointer-events: all; }
.hit:hover, g:hover > .hit { fill: var(--ink); fill-opacity: .08; }
.away { fill: var(--away); }
.granted { fill: var(--granted); }
.refused { fill: var(--refused); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.l1 { stroke: var(--c1); } .l2 { stroke: var(--c2); stroke-dasharray: 7 3; }
.lq { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 3 4; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; margin: 6px 0 0;
  font-size: 13px; }
details { margin: 6px 0 0; font-size: 13px; }
summary { color: var(--quiet); cursor: pointer; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding: 2px 0 4px; }
th, td { text-align: left; vertical-align: top; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--faint); }
thead th { color: var(--quiet); font-weight: 600; border-bottom-color: var(--rule); }
th.number, td.number { text-align: right; padding-right: 28px; }
td.time { white-space: nowrap; }
td.long { overflow-wrap: anywhere; min-width: 12em; }
.bad { color: var(--alert); font-weight: 600; }
.empty { color: var(--quiet); background: var(--raised); border-radius: 8px; padding: 14px; }
@media print {
  :root {
    --ground: #fff; --raised: #fff; --ink: #000; --quiet: #444; --rule: #888; --faint: #ddd; --away: #e4e4e4;
    --granted: #2166ac; --refused: #d05a22; --alert: #a40e26;
    --c1: #2166ac; --c2: #d05a22; --note: #8f6a00;
  }
  body { font-size: 11pt; }
  main, header, footer { max-width: none; padding-left: 0; padding-right: 0; }
  .tiles div { border: 1px solid var(--rule); }
  figure, tr, .tiles { break-inside: avoid; }
  h2, figcaption, caption, thead { break-after: avoid; }
  details { display: none; }
  rect { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

_DIGEST = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
SECURITY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
"""The page's own Content-Security-Policy: this style, and nothing else from anywhere."""
