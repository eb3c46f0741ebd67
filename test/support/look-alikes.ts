/** Inputs that are not the name but look like it, or become it under some folding. */
export interface LookAlike {
  how: string;
  name: string;
  looksLike: string;
}

export const LOOK_ALIKES: LookAlike[] = [
  { how: 'Kelvin sign', name: '\u212Aate', looksLike: 'kate' },
  { how: 'Cyrillic a', name: 'k\u0430te', looksLike: 'kate' },
  { how: 'dotless i', name: 'adm\u0131n', looksLike: 'admin' },
  { how: 'capital I with dot', name: 'adm\u0130n', looksLike: 'admin' },
  { how: 'long s', name: '\u017Fervice-bot', looksLike: 'service-bot' },
  { how: 'full width', name: '\uFF41\uFF44\uFF4D\uFF49\uFF4E', looksLike: 'admin' },
  { how: 'mathematical bold', name: '\u{1D41A}\u{1D41D}\u{1D426}\u{1D422}\u{1D427}', looksLike: 'admin' },
  { how: 'zero width space', name: 'ad\u200Bmin', looksLike: 'admin' },
  { how: 'zero width joiner', name: 'admin\u200D', looksLike: 'admin' },
  { how: 'soft hyphen', name: 'ad\u00ADmin', looksLike: 'admin' },
  { how: 'byte order mark', name: '\uFEFFadmin', looksLike: 'admin' },
  { how: 'no-break space', name: 'admin\u00A0', looksLike: 'admin' },
  { how: 'trailing space', name: 'admin ', looksLike: 'admin' },
  { how: 'leading space', name: ' admin', looksLike: 'admin' },
  { how: 'upper case', name: 'ADMIN', looksLike: 'admin' },
  { how: 'sharp s', name: 'straße', looksLike: 'strasse' },
  { how: 'upper case of sharp s', name: 'STRASSE', looksLike: 'strasse' },
  { how: 'decomposed accent', name: 'zoe\u0308', looksLike: 'zoë' },
  { how: 'pattern', name: 'adm%', looksLike: 'admin' },
  { how: 'regular expression', name: 'adm.n', looksLike: 'admin' },
  { how: 'substring', name: 'dmi', looksLike: 'admin' },
  { how: 'list of it', name: 'kate,admin', looksLike: 'admin' },
];
