export default async function globalTeardown() {
  await globalThis.devPostgres?.stop();
}
