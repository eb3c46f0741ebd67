/** An application that the README shows, or code that is only compiled. */
export interface ReadmeCode {
  kind: 'cookie' | 'jwt' | 'compiled only';
  /** The line of the README where it begins. */
  line: number;
  files: Record<string, string>;
}

/** While it is read. */
interface Found extends ReadmeCode {
  like?: ReadmeCode | undefined;
}

const APP = /^<!-- app: (cookie|jwt)(, like the first)? -->$/;
const APP_END = /^<!-- \/app -->$/;
const FENCE = /^```(\S*)/;
const FILE = /^\/\/ file: (src\/[\w./-]+\.ts)$/;

/**
 * Reads the code out of a README. The convention:
 *
 * - Only fences that begin with ```ts are code; ```typescript, ```sh and the rest are looks.
 * - A block whose first line is `// file: src/some/name.ts` is that whole file; without it, a module of its own.
 * - What stands between `<!-- app: cookie -->` or `<!-- app: jwt -->` and `<!-- /app -->` is one whole application,
 *   which begins in src/main.ts. GitHub shows no such comment. `<!-- app: cookie, like the first -->`: what it does not
 *   show is that of the first application of its kind.
 * - All other blocks are compiled and not run. `<!-- no-run -->` before one says so to who reads the source.
 *
 * @throws Error for a README that does not keep it
 */
export function codeOf(readme: string): ReadmeCode[] {
  const loose: Found = { kind: 'compiled only', line: 1, files: {} };
  const found: Found[] = [loose];
  let current: Found = loose;
  let block: { language: string; line: number; text: string[] } | undefined;
  readme.split('\n').forEach((text, index) => {
    const line = index + 1;
    if (block) {
      if (!text.startsWith('```')) return void block.text.push(text);
      if (block.language === 'ts') addFile(current, block);
      return void (block = undefined);
    }
    const [, language] = FENCE.exec(text) ?? [];
    const [, kind, like] = APP.exec(text) ?? [];
    if (language !== undefined) block = { language, line, text: [] };
    else if (kind !== undefined) {
      if (current !== loose)
        throw new Error(`line ${line}: the application of line ${current.line} has no <!-- /app -->`);
      const first = like === undefined ? undefined : found.find((one) => one.kind === kind);
      if (like !== undefined && first === undefined) throw new Error(`line ${line}: there is no first one`);
      found.push((current = { kind: kind as 'cookie' | 'jwt', line, files: {}, like: first }));
    } else if (APP_END.test(text)) current = loose;
  });
  if (block || current !== loose) throw new Error('The README ends inside of a block or an application.');
  return found
    .filter(({ files }) => Object.keys(files).length > 0)
    .map(({ like, files, ...one }) => ({ ...one, files: { ...like?.files, ...files } }));
}

function addFile({ files, kind }: ReadmeCode, { text, line }: { text: string[]; line: number }): void {
  const [, named] = FILE.exec(text[0] ?? '') ?? [];
  if (named === undefined && kind !== 'compiled only')
    throw new Error(`line ${line}: a block of an application begins with "// file: src/...ts"`);
  const name = named ?? `src/line-${line}.ts`;
  if (name in files) throw new Error(`line ${line}: ${name} is there already`);
  files[name] = text.join('\n');
}
