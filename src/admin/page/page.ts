/**
 * The page at `<base>/ui`: the frame that the script fills. Its addresses are relative to its own, so that
 * the base path need not be known, and nothing in it is inline, so that the policy can forbid that.
 */
export const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>Sessions</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="ui/app.css">
<script type="module" src="ui/app.js"></script>
</head>
<body>
<a class="skip" href="#sessions-heading">Skip to the sessions</a>

<header>
<h1>Sessions</h1>
<p id="live" class="live" data-state="waiting">Loading</p>
<nav aria-label="On this page">
<ul>
<li><a href="#sessions-heading">Signed in</a></li>
<li><a href="#everyone-heading">Log out everyone</a></li>
<li><a href="#exemptions-heading">Exemptions</a></li>
<li><a href="#actions-heading">Record</a></li>
</ul>
</nav>
</header>

<main id="over" hidden>
<h2 id="over-title" tabindex="-1"></h2>
<p id="over-text"></p>
<p><a href="/">Go to the start page</a></p>
</main>

<main id="page">
<noscript><p class="panel">This page needs JavaScript.</p></noscript>

<section aria-labelledby="summary-heading">
<h2 id="summary-heading" class="unseen">Summary</h2>
<dl class="tiles">
<div><dt>Active sessions</dt><dd id="active-sessions">–</dd></div>
<div><dt>Users</dt><dd id="active-users">–</dd></div>
<div><dt>Administrators</dt><dd id="administrators">–</dd></div>
<div><dt>Exempt sessions</dt><dd id="exempt-sessions">–</dd></div>
</dl>
</section>

<section id="storms" class="panel storms" aria-labelledby="storms-heading" hidden>
<h2 id="storms-heading">Sessions that replace each other</h2>
<p class="hint">Usually a service account on several machines: each login ends the session of the one before. Exempt the account if it may have many sessions.</p>
<table role="table" aria-labelledby="storms-heading">
<thead role="rowgroup"><tr role="row" id="storm-columns"></tr></thead>
<tbody role="rowgroup" id="storm-rows"></tbody>
</table>
</section>

<section class="panel" aria-labelledby="sessions-heading">
<h2 id="sessions-heading" tabindex="-1">Who is signed in, and where</h2>
<form id="filter" class="filter" role="search" aria-label="Sessions">
<div class="field">
<label for="filter-username">Username <span class="hint">(exact)</span></label>
<input id="filter-username" name="username" autocomplete="off" autocapitalize="none" spellcheck="false">
</div>
<div class="field">
<label for="filter-user-id">User id</label>
<input id="filter-user-id" name="userId" autocomplete="off" autocapitalize="none" spellcheck="false">
</div>
<div class="field">
<label for="filter-role">Role</label>
<input id="filter-role" name="role" autocomplete="off" autocapitalize="none" spellcheck="false">
</div>
<div class="field">
<label for="filter-state">State</label>
<select id="filter-state" name="state">
<option value="active">Active</option>
<option value="ended">Ended</option>
<option value="all">All</option>
</select>
</div>
<div class="buttons">
<button type="submit">Filter</button>
<button type="button" id="clear-filter" class="plain">Clear</button>
</div>
</form>

<div class="toolbar">
<button type="button" id="log-out-selected" class="danger" aria-disabled="true">Log out selected</button>
<button type="button" id="clear-selection" class="plain" hidden>Clear selection</button>
<span id="selection" class="hint"></span>
</div>

<table role="table" class="sessions">
<caption id="sessions-caption"></caption>
<thead role="rowgroup"><tr role="row" id="session-columns"></tr></thead>
<tbody role="rowgroup" id="session-rows"></tbody>
</table>
<p id="sessions-empty" class="empty">Loading the sessions …</p>

<div class="toolbar" role="group" aria-label="Pages of sessions">
<button type="button" id="newer" class="plain" aria-disabled="true">Newer</button>
<button type="button" id="older" class="plain" aria-disabled="true">Older</button>
<span id="position" class="hint"></span>
<span class="rows-per-page">
<label for="limit">Rows</label>
<select id="limit">
<option>25</option>
<option>50</option>
<option>100</option>
<option>200</option>
</select>
</span>
</div>
</section>

<div class="columns">
<section class="panel" aria-labelledby="everyone-heading">
<h2 id="everyone-heading" tabindex="-1">Log out everyone except …</h2>
<form id="everyone">
<fieldset>
<legend>Spare</legend>
<label class="check"><input type="checkbox" name="administrators" checked> Administrators</label>
<label class="check"><input type="checkbox" name="me" checked> Me</label>
<div class="field">
<label for="everyone-roles">People with these roles</label>
<input id="everyone-roles" name="roles" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="everyone-lists">
</div>
<div class="field">
<label for="everyone-usernames">People with these usernames</label>
<textarea id="everyone-usernames" name="usernames" rows="2" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="everyone-lists"></textarea>
</div>
<p id="everyone-lists" class="hint">Separate several by commas or new lines. They must match exactly.</p>
</fieldset>
<div class="field">
<label for="everyone-note">Note for the record <span class="hint">(optional)</span></label>
<input id="everyone-note" name="note" autocomplete="off">
</div>
<p id="everyone-count" class="count" role="status" tabindex="-1">Count first: nothing ends until you have seen how many.</p>
<div class="buttons">
<button type="submit" id="count">Count first</button>
<button type="button" id="log-out-everyone" class="danger" disabled>Log out</button>
</div>
</form>
</section>

<section class="panel" aria-labelledby="exemptions-heading">
<h2 id="exemptions-heading" tabindex="-1">Exemptions</h2>
<p class="hint">The limit does not apply to them: a new login of theirs ends no other session.</p>
<table role="table" class="exemptions" aria-labelledby="exemptions-heading">
<thead role="rowgroup"><tr role="row" id="exemption-columns"></tr></thead>
<tbody role="rowgroup" id="exemption-rows"></tbody>
</table>
<p id="exemptions-empty" class="empty">Loading the exemptions …</p>

<h3 id="exempt-heading">Add an exemption</h3>
<form id="exempt" class="grid" aria-labelledby="exempt-heading">
<div class="field">
<label for="exempt-kind">Kind</label>
<select id="exempt-kind" name="kind">
<option value="username">Username</option>
<option value="role">Role</option>
</select>
</div>
<div class="field">
<label for="exempt-value">Username or role <span class="hint">(exact)</span></label>
<input id="exempt-value" name="value" required autocomplete="off" autocapitalize="none" spellcheck="false">
</div>
<div class="field">
<label for="exempt-note">Note <span class="hint">(optional)</span></label>
<input id="exempt-note" name="note" autocomplete="off">
</div>
<div class="field">
<label for="exempt-expires">Until <span class="hint">(optional)</span></label>
<input id="exempt-expires" name="expiresAt" type="datetime-local">
</div>
<div class="buttons">
<button type="submit">Exempt</button>
</div>
</form>
</section>
</div>

<section class="panel" aria-labelledby="actions-heading">
<h2 id="actions-heading" tabindex="-1">Record of actions</h2>
<table role="table" class="actions" aria-labelledby="actions-heading">
<thead role="rowgroup"><tr role="row" id="action-columns"></tr></thead>
<tbody role="rowgroup" id="action-rows"></tbody>
</table>
<p id="actions-empty" class="empty">Loading the record …</p>
<div class="toolbar" role="group" aria-label="Pages of the record">
<button type="button" id="newer-actions" class="plain" aria-disabled="true">Newer</button>
<button type="button" id="older-actions" class="plain" aria-disabled="true">Older</button>
<span id="actions-position" class="hint"></span>
</div>
</section>

<div id="notice" class="notice">
<div id="notice-text" role="status"></div>
<button type="button" id="notice-close" class="plain" hidden>Dismiss</button>
</div>
</main>

<div id="said" class="unseen" role="status"></div>

<dialog id="confirm" aria-labelledby="confirm-title" aria-describedby="confirm-text">
<h2 id="confirm-title"></h2>
<p id="confirm-text"></p>
<label class="check" id="confirm-wider"><input type="checkbox" id="confirm-all"> <span id="confirm-all-text"></span></label>
<div class="field" id="confirm-noted">
<label for="confirm-note">Note for the record <span class="hint">(optional)</span></label>
<input id="confirm-note" autocomplete="off">
</div>
<div class="buttons">
<button type="button" id="confirm-no" class="plain" autofocus>Cancel</button>
<button type="button" id="confirm-yes" class="danger">Log out</button>
</div>
</dialog>
</body>
</html>
`;
