/** The style sheet of the page. */
export const style = `
:root {
  color-scheme: light dark;
  --paper: #faf9f6;
  --card: #ffffff;
  --ink: #23262b;
  --soft: #5d636d;
  --line: #dcdad3;
  --field: #8b8f97;
  --accent: #14577f;
  --on-accent: #ffffff;
  --good: #1b6b43;
  --bad: #a3341f;
  --wait: #80590a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b;
    --card: #1e2125;
    --ink: #e7e6e2;
    --soft: #a5abb5;
    --line: #363b42;
    --field: #7d848e;
    --accent: #85c1e6;
    --on-accent: #10222e;
    --good: #7fd1a3;
    --bad: #f39a85;
    --wait: #e3bd6d;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body {
  margin: 0 auto;
  max-width: 42rem;
  padding: 2rem 1.25rem 3rem;
  background: var(--paper);
  color: var(--ink);
  font: 1rem/1.6 system-ui, sans-serif;
  overflow-wrap: anywhere;
}
h1 { margin: 0; font-size: 1.75rem; line-height: 1.25; letter-spacing: -0.01em; }
h2 { margin: 0 0 0.5rem; font-size: 1.125rem; line-height: 1.35; }
p { margin: 0 0 0.75rem; }
header p { margin-top: 0.5rem; color: var(--soft); }
header strong { color: var(--ink); font-weight: 600; white-space: nowrap; }
section { margin-top: 2.25rem; }
ol { margin: 0; padding-left: 1.4rem; }
li + li { margin-top: 0.35rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.875em; }
pre {
  margin: 0 0 1rem;
  padding: 0.9rem 1rem;
  overflow-x: auto;
  overflow-wrap: normal;
  border: 1px solid var(--line);
  border-radius: 8px;
  background: var(--card);
  line-height: 1.55;
}
pre code { font-size: 0.8125rem; }
pre .origin { font-weight: inherit; }

.panel {
  padding: 1.25rem;
  border: 1px solid var(--line);
  border-radius: 8px;
  background: var(--card);
}
.panel[data-state='signed-in'] { --state: var(--good); }
.panel[data-state='ended'] { --state: var(--bad); }
.panel[data-state='waiting'] { --state: var(--wait); }
.panel h2 { color: var(--soft); font-size: 0.875rem; font-weight: 500; }
#status-title {
  margin-bottom: 0.25rem;
  color: var(--state, var(--ink));
  font-size: 1.375rem;
  font-weight: 600;
  line-height: 1.3;
}
#status-title::before {
  content: '';
  display: inline-block;
  width: 0.6em;
  height: 0.6em;
  margin-right: 0.5em;
  border: 2px solid var(--state, var(--field));
  border-radius: 50%;
  background: var(--state, transparent);
}
#status-text { margin-bottom: 1.25rem; }
.facts { color: var(--soft); font-size: 0.875rem; }

form { display: grid; gap: 1rem; grid-template-columns: 1fr 1fr; align-items: end; }
label { display: block; margin-bottom: 0.25rem; font-size: 0.875rem; font-weight: 500; }
.hint { color: var(--soft); font-weight: 400; }
input, button { min-height: 2.75rem; border-radius: 6px; font: inherit; }
input {
  width: 100%;
  padding: 0.25rem 0.75rem;
  border: 1px solid var(--field);
  background: var(--paper);
  color: var(--ink);
}
button {
  padding: 0.25rem 1.25rem;
  border: 1px solid var(--accent);
  background: var(--accent);
  color: var(--on-accent);
  font-weight: 500;
  cursor: pointer;
}
#sign-in-button { justify-self: start; }
#sign-out, .people button { background: transparent; color: var(--accent); }
button:disabled { opacity: 0.55; cursor: default; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }

.people { margin: 0 0 1rem; padding: 0; list-style: none; }
.people li { display: grid; grid-template-columns: 10rem 1fr; gap: 0.9rem; align-items: center; }
.people button { padding: 0.25rem 0.75rem; border-color: var(--field); text-align: left; white-space: nowrap; }
.people span { color: var(--soft); }

footer { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: 0.875rem; }

@media (max-width: 32rem) {
  body { padding-top: 1.25rem; }
  form { grid-template-columns: 1fr; }
  #sign-in-button { justify-self: stretch; }
}
`;
