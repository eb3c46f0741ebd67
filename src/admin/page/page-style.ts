/** The style sheet of the page. */
export const style = `
:root {
  color-scheme: light dark;
  --paper: #f6f6f4;
  --card: #ffffff;
  --raised: #f9f9f7;
  --ink: #1f2329;
  --soft: #5a616b;
  --line: #dfdfda;
  --field: #868c95;
  --accent: #14577f;
  --on-accent: #ffffff;
  --tint: #e6f0f6;
  --good: #1b6b43;
  --good-tint: #e6f3ec;
  --bad: #a3281f;
  --on-bad: #ffffff;
  --bad-tint: #fbeceb;
  --warn: #76520a;
  --warn-tint: #fbf3df;
  --shadow: 0 10px 30px rgb(20 25 35 / 0.18);
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131518;
    --card: #1b1e22;
    --raised: #20242a;
    --ink: #e6e7e9;
    --soft: #a3abb6;
    --line: #30353c;
    --field: #767e89;
    --accent: #85c1e6;
    --on-accent: #10222e;
    --tint: #1b303d;
    --good: #7fd1a3;
    --good-tint: #17301f;
    --bad: #f49b8b;
    --on-bad: #2c0d08;
    --bad-tint: #391d19;
    --warn: #e5bf70;
    --warn-tint: #332912;
    --shadow: 0 10px 30px rgb(0 0 0 / 0.5);
  }
}

* { box-sizing: border-box; }
[hidden] { display: none !important; }
html { scroll-padding-block: 1rem 6rem; }
body {
  margin: 0 auto;
  max-width: 84rem;
  padding: 1.75rem 1.5rem 6rem;
  background: var(--paper);
  color: var(--ink);
  font: 0.9375rem/1.5 system-ui, sans-serif;
  overflow-wrap: break-word;
}
bdi, dialog { overflow-wrap: anywhere; }
h1, h2, h3, p, dl, dd, ul, table, fieldset { margin: 0; }
h1 { font-size: 1.5rem; line-height: 1.25; letter-spacing: -0.015em; }
h2 { font-size: 1.0625rem; line-height: 1.35; }
h3 { margin-top: 1.5rem; font-size: 0.9375rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
h2:focus, #everyone-count:focus { outline: none; }
h2:focus-visible, #everyone-count:focus-visible { outline: 3px solid var(--accent); }
.hint { color: var(--soft); font-size: 0.8125rem; font-weight: 400; }
.unseen, .notice:not([data-tone]), .skip:not(:focus) {
  position: absolute;
  width: 1px;
  height: 1px;
  margin: -1px;
  padding: 0;
  border: 0;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
.skip { position: fixed; z-index: 3; top: 0.5rem; left: 0.5rem; padding: 0.5rem 1rem; border-radius: 6px; background: var(--card); }

header { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; align-items: center; }
nav { margin-left: auto; }
nav ul { display: flex; flex-wrap: wrap; gap: 0 0.25rem; padding: 0; list-style: none; }
nav a { display: block; padding: 0.4rem 0.6rem; border-radius: 6px; color: var(--soft); text-decoration: none; }
nav a:hover { background: var(--card); color: var(--ink); }
.live { display: flex; align-items: center; padding: 0.1rem 0.65rem; border-radius: 99px; background: var(--tint); color: var(--accent); font-size: 0.8125rem; font-weight: 500; }
.live::before { content: ''; width: 0.5rem; height: 0.5rem; margin-right: 0.45rem; border-radius: 50%; background: currentcolor; }
.live[data-state='live'] { background: var(--good-tint); color: var(--good); }
.live[data-state='waiting'] { background: var(--warn-tint); color: var(--warn); }
.live[data-state='over'] { background: var(--bad-tint); color: var(--bad); }

main > * { margin-top: 1.25rem; }
.panel { padding: 1.25rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.panel > * + * { margin-top: 0.75rem; }
.columns { display: grid; gap: 1.25rem; align-items: start; }
@media (width >= 64rem) { .columns { grid-template-columns: 2fr 3fr; } }
#over { max-width: 36rem; margin: 3rem auto; padding: 1.5rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
#over > * + * { margin-top: 0.5rem; }

.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; overflow: hidden; border: 1px solid var(--line); border-radius: 10px; background: var(--line); }
.tiles div { padding: 0.85rem 1.25rem; background: var(--card); }
.tiles dt { color: var(--soft); font-size: 0.8125rem; }
.tiles dd { font-size: 1.75rem; font-weight: 600; line-height: 1.25; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.storms { border-color: var(--warn); background: var(--warn-tint); }
.storms h2 { color: var(--warn); }
.storms .hint { color: var(--ink); }

label, legend { font-size: 0.8125rem; font-weight: 500; }
.field { display: flex; flex-direction: column; gap: 0.25rem; min-width: 0; }
.check { display: flex; gap: 0.5rem; align-items: center; min-height: 1.75rem; font-size: 0.9375rem; font-weight: 400; }
input, select, textarea, button { font: inherit; border-radius: 6px; }
input:not([type='checkbox']), select, textarea { width: 100%; min-width: 0; min-height: 2.25rem; padding: 0.3rem 0.6rem; border: 1px solid var(--field); background: var(--card); color: inherit; }
textarea { resize: vertical; }
input[type='checkbox'] { flex: none; width: 1.0625rem; height: 1.0625rem; margin: 0; accent-color: var(--accent); }
fieldset { display: grid; gap: 0.6rem; padding: 0; border: 0; }
legend { padding: 0; margin-bottom: 0.25rem; }
#everyone { display: grid; gap: 0.9rem; }
.buttons { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: end; }
button { min-height: 2.25rem; padding: 0.3rem 0.9rem; border: 1px solid var(--accent); background: var(--accent); color: var(--on-accent); font-weight: 500; cursor: pointer; }
button:hover { filter: brightness(1.08); }
button.plain { border-color: var(--field); background: transparent; color: var(--ink); }
button.plain:hover { border-color: var(--accent); color: var(--accent); filter: none; }
button.danger { border-color: var(--bad); background: var(--bad); color: var(--on-bad); }
button.danger.plain { border-color: var(--line); background: transparent; color: var(--bad); }
button.danger.plain:hover { border-color: var(--bad); background: var(--bad-tint); color: var(--bad); }
button:disabled, button[aria-disabled='true'] { border-color: var(--line); background: var(--raised); color: var(--soft); cursor: default; filter: none; }
.filter { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)) auto; gap: 0.75rem; align-items: end; }
.grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.75rem; align-items: end; }
.toolbar { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; }
.toolbar .hint { margin-left: 0.25rem; }
.rows-per-page { display: flex; gap: 0.5rem; align-items: center; margin-left: auto; }
.rows-per-page select { width: auto; }
.count { padding: 0.6rem 0.8rem; border-left: 3px solid var(--accent); border-radius: 0 6px 6px 0; background: var(--tint); }
.empty { padding: 1.25rem; border: 1px dashed var(--line); border-radius: 8px; color: var(--soft); text-align: center; }

table { width: 100%; border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
caption { padding-bottom: 0.5rem; color: var(--soft); font-size: 0.8125rem; text-align: left; }
th, td { padding: 0; font-weight: 400; text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-size: 0.8125rem; font-weight: 500; }
tbody tr:has(:checked) { background: var(--tint); }
.storms thead { display: none; }
.name { font-weight: 600; }
/* Accents that are piled up do not reach into the rows above. */
.user, .details, .note { overflow: clip; }
td.address bdi { font: 0.8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
td.device { color: var(--soft); font-size: 0.8125rem; }
.does { white-space: nowrap; }
.does button { min-height: 2rem; padding: 0.15rem 0.7rem; font-size: 0.875rem; }

@media (width > 60rem) {
  th, td { padding: 0.6rem 0.5rem; border-bottom: 1px solid var(--line); }
  thead th { padding-block: 0.4rem; white-space: nowrap; }
  th:first-child, td:first-child { padding-left: 0.35rem; }
  th:last-child, td:last-child { padding-right: 0.35rem; }
  tbody tr:last-child > * { border-bottom: 0; }
  .storms :is(th, td) { padding: 0.3rem 0; border: 0; vertical-align: middle; }
  .user { min-width: 8rem; }
  .when { white-space: nowrap; }
  td.address { min-width: 9.25rem; }
  td.device { min-width: 12rem; max-width: 26rem; }
  td.note, td.details { min-width: 8rem; }
  .does { text-align: right; }
  .does button { margin-block: -0.3rem; }
  .does button + button { margin-left: 0.5rem; }
  .selects input { margin-top: 0.2rem; }
}
.chip { display: inline-block; padding: 0 0.5rem; border-radius: 99px; background: var(--raised); box-shadow: inset 0 0 0 1px var(--line); color: var(--soft); font-size: 0.75rem; line-height: 1.25rem; }
.chip.you { background: var(--tint); box-shadow: none; color: var(--accent); font-weight: 500; }
.chip.exempt { background: var(--warn-tint); box-shadow: none; color: var(--warn); }
.active { color: var(--good); }
.ended { color: var(--bad); }
@media (prefers-reduced-motion: no-preference) {
  .came > * { animation: came 2.5s ease-out; }
  @keyframes came { from { background: var(--good-tint); } }
}

.notice[data-tone] {
  position: fixed;
  z-index: 2;
  inset: auto 1rem 1rem;
  display: flex;
  gap: 1rem;
  align-items: center;
  justify-content: space-between;
  max-width: 44rem;
  margin: 0 auto;
  padding: 0.75rem 1rem;
  border: 1px solid var(--line);
  border-left: 4px solid var(--good);
  border-radius: 8px;
  background: var(--card);
  box-shadow: var(--shadow);
}
.notice[data-tone='warn'] { border-left-color: var(--warn); }
.notice[data-tone='bad'] { border-left-color: var(--bad); }
dialog { width: min(30rem, calc(100vw - 2rem)); padding: 1.5rem; border: 1px solid var(--line); border-radius: 12px; background: var(--card); color: inherit; box-shadow: var(--shadow); }
dialog::backdrop { background: rgb(10 12 16 / 0.5); }
dialog > * + * { margin-top: 0.9rem; }
dialog .buttons { justify-content: flex-end; }

/* Too narrow for a table: each row becomes a card. */
@media (width <= 60rem) {
  .filter { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .filter .buttons { grid-column: 1 / -1; }
  table, caption, thead, thead tr, tbody { display: block; }
  thead th:not(.selects) { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  tbody tr > :empty { display: none; }
  thead .selects { display: flex; gap: 0.5rem; align-items: center; padding-bottom: 0.6rem; }
  thead .selects::after { content: 'Select all on this page'; }
  tbody tr { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.5rem 1rem; padding: 0.85rem; border: 1px solid var(--line); border-radius: 8px; }
  tbody tr + tr { margin-top: 0.6rem; }
  td:not(.selects, .does)::before { content: attr(data-name); display: block; color: var(--soft); font: 0.75rem/1.4 system-ui, sans-serif; }
  .user, .device, .details, .note, .does { grid-column: 1 / -1; }
  .selects { grid-row: 1; grid-column: 1; }
  .selects:not(:empty) + .user { grid-row: 1; margin-left: 1.75rem; }
  .does { display: flex; flex-wrap: wrap; gap: 0.5rem; }
  .does button { flex: 1 1 auto; min-height: 2.5rem; white-space: normal; }
}
@media (width <= 40rem) {
  body { padding: 1rem 0.75rem 6rem; }
  .panel { padding: 1rem 0.85rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  nav { margin-inline: -0.45rem; }
  nav a { padding-inline: 0.45rem; font-size: 0.875rem; }
  .grid { grid-template-columns: 1fr; }
  dialog { padding: 1.1rem; }
}
`;
