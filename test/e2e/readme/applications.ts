/** An application that the README or a document shows, or code that is only compiled. */
export interface ReadmeCode {
  kind: 'cookie' | 'jwt' | 'compiled only';
  /** The line where it begins. */
  line: number;
  files: Record<string, string>;
}

const APP = /^<!-- app: (cookie|jwt)( over the one before)? -->$/;
const APP_END = /^<!-- \/app -->$/;
const FENCE = /^```(\S*)/;
const FILE = /^\/\/ file: (src\/[\w./-]+\.ts)$/;

/**
 * Reads the code out of a README. The convention:
 *
 * - Only fences that begin with ```ts are code; ```typescript, ```sh and the rest are looks.
 * - A block whose first line is `// file: src/some/name.ts` is that whole file; without it, a module of its own.
 * - What stands between `<!-- app: cookie -->` or `<!-- app: jwt -->` and `<!-- /app -->` is one whole application,
 *   which begins in src/main.ts. GitHub shows no such comment. With `<!-- app: jwt over the one before -->` it is the
 *   application before it with these files in place of its own.
 * - All other blocks are compiled and not run. `<!-- no-run -->` before one says so to who reads the source.
 *
 * @throws Error for a README that does not keep it
 */
export function codeOf(readme: string): ReadmeCode[] {
  const loose: ReadmeCode = { kind: 'compiled only', line: 1, files: {} };
  const found: ReadmeCode[] = [loose];
  const bases = new Map<ReadmeCode, ReadmeCode>();
  let current = loose;
  let block: { language: string; line: number; text: string[] } | undefined;
  readme.split('\n').forEach((text, index) => {
    const line = index + 1;
    if (block) {
      if (!text.startsWith('```')) return void block.text.push(text);
      if (block.language === 'ts') addFile(current, block);
      return void (block = undefined);
    }
    const [, language] = FENCE.exec(text) ?? [];
    const [, kind, over] = APP.exec(text) ?? [];
    if (language !== undefined) block = { language, line, text: [] };
    else if (kind !== undefined) {
      if (current !== loose)
        throw new Error(`line ${line}: the application of line ${current.line} has no <!-- /app -->`);
      const base = over === undefined ? undefined : found.at(-1);
      if (base === loose) throw new Error(`line ${line}: there is no application before this one`);
      found.push((current = { kind: kind as 'cookie' | 'jwt', line, files: {} }));
      if (base) bases.set(current, base);
    } else if (APP_END.test(text)) current = loose;
  });
  for (const [{ files }, base] of bases) Object.assign(files, { ...base.files, ...files });
  if (block || current !== loose) throw new Error('The README ends inside of a block or an application.');
  return found.filter(({ files }) => Object.keys(files).length > 0);
}

function addFile({ files, kind }: ReadmeCode, { text, line }: { text: string[]; line: number }): void {
  const [, named] = FILE.exec(text[0] ?? '') ?? [];
  if (named === undefined && kind !== 'compiled only')
    throw new Error(`line ${line}: a block of an application begins with "// file: src/...ts"`);
  const name = named ?? `src/line-${line}.ts`;
  if (name in files) throw new Error(`line ${line}: ${name} is there already`);
  files[name] = text.join('\n');
}
