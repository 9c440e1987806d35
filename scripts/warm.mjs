// Fills Node's compile cache with everything that a server loads, threads included, so that the first start after an
// install is as quick and as small as every later one. Started by scripts/setup.sh with NODE_COMPILE_CACHE set.
import { globSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { pathToFileURL } from 'node:url'

const root = new URL('..', import.meta.url)
const files = globSync('src/**/*.ts', { cwd: root }).filter((file) => !/\.(test|fixture)\.ts$|\/(suite|fixture)/.test(file))
for (const file of files) {
  // A thread's entry refuses to run outside of a thread; by then it is compiled.
  await import(pathToFileURL(new URL(file, root).pathname).href).catch(() => {})
}
flushCompileCache()
process.exit(0)
