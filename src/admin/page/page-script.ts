import { actions } from './page-script/actions.js';
import { api } from './page-script/api.js';
import { contract } from './page-script/contract.js';
import { dom } from './page-script/dom.js';
import { everyone } from './page-script/everyone.js';
import { exemptions } from './page-script/exemptions.js';
import { live } from './page-script/live.js';
import { logOut } from './page-script/log-out.js';
import { notices } from './page-script/notices.js';
import { pagedTable } from './page-script/paged-table.js';
import { sessions } from './page-script/sessions.js';
import { summary } from './page-script/summary.js';
import { table } from './page-script/table.js';
import { words } from './page-script/words.js';

/**
 * The script of the page: one module of plain JavaScript, in parts to be read in this order.
 * A part uses what the ones before it define; only `live` starts anything.
 */
export const script = [
  contract,
  dom,
  words,
  notices,
  api,
  table,
  pagedTable,
  summary,
  sessions,
  logOut,
  everyone,
  exemptions,
  actions,
  live,
].join('');
